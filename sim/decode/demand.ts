/**
 * What a policy asked of one layer in one step, averaged over the KV heads that were replayed: plain numbers per KV
 * head of one sequence. The lowering scales them to all KV heads, all layers and the batch.
 */
import type { TopK, Work } from '../policy/policy.ts';
import type { KernelCall } from '../program/operation.ts';

/** Indexed by stored form (0 = raw). Tokens may be fractional: they are means over heads. */
export interface LayerDemand {
  /** Tokens that one query head attends to, mean over the group; of a prompt, 0 = all before it. */
  attendTokens: number;
  /** Of those, attended on the CPU. */
  farAttendTokens: number;
  /** Attended tokens that lie in HBM already. */
  residentTokens: number[];
  /** Attended tokens that cross from DRAM; where the CPU attends to them, it reads them and they do not cross. */
  fetchTokens: number[];
  /** Pieces of host memory (PIECE_BYTES each) in which those lie; counted where a kernel reads them over the link. */
  fetchPieces: number[];
  /** Tokens that cross from DRAM into a cache, for choices to come. */
  refillTokens: number[];
  /** Tokens that leave HBM for DRAM in this step, to stay there or to go on to NVMe. */
  spillTokens: number[];
  /** Tokens that come from NVMe to DRAM: to cross from there or to be attended there, or to stay. */
  loadTokens: number[];
  /** Tokens that go from DRAM to NVMe. */
  storeTokens: number[];
  /** Tokens that take a coded form in this step. */
  encodeTokens: number[];
  works: Work[];
  topks: TopK[];
}

/** Resident KV of one layer per KV head of one sequence, bytes. */
export interface LayerResidency {
  hbmBytes: number;
  dramBytes: number;
  nvmeBytes: number;
  liveTokens: number;
}

export const emptyDemand = (forms: number): LayerDemand => ({
  attendTokens: 0,
  farAttendTokens: 0,
  residentTokens: new Array(forms).fill(0),
  fetchTokens: new Array(forms).fill(0),
  fetchPieces: new Array(forms).fill(0),
  refillTokens: new Array(forms).fill(0),
  spillTokens: new Array(forms).fill(0),
  loadTokens: new Array(forms).fill(0),
  storeTokens: new Array(forms).fill(0),
  encodeTokens: new Array(forms).fill(0),
  works: [],
  topks: [],
});

/** The same kernel on `share` times as much. */
export const scaleCall = (call: KernelCall, share: number): KernelCall => ({
  ...call,
  counts: Object.fromEntries(Object.entries(call.counts).map(([name, count]) => [name, count * share])),
});

const scaleWork = (work: Work, share: number): Work => ({
  ...work,
  readBytes: Object.fromEntries(Object.entries(work.readBytes).map(([tier, bytes]) => [tier, bytes * share])),
  writeBytes: Object.fromEntries(
    Object.entries(work.writeBytes ?? {}).map(([tier, bytes]) => [tier, bytes * share]),
  ),
  flops: work.flops * share,
  ...(work.matrixFlops === undefined ? {} : { matrixFlops: work.matrixFlops * share }),
  ...(work.call === undefined ? {} : { call: scaleCall(work.call, share) }),
});

const addCalls = (a: Work['call'], b: Work['call']): Pick<Work, 'call'> => {
  if (a === undefined || b === undefined) return {};
  const counts = Object.fromEntries(
    Object.entries(a.counts).map(([name, count]) => [name, count + (b.counts[name] ?? 0)]),
  );
  return { call: { ...a, counts } };
};

const addBytes = (a: Work['readBytes'], b: Work['readBytes']): Work['readBytes'] => {
  const sum: Partial<Record<string, number>> = { ...a };
  for (const [tier, bytes] of Object.entries(b)) sum[tier] = (sum[tier] ?? 0) + bytes;
  return sum;
};

/** Works of several heads, each the `share` of the layer, merged by index in order of first appearance. */
export const mergeWork = (merged: Work[], work: Work, share: number): void => {
  const scaled = scaleWork(work, share);
  const at = merged.findIndex((m) => m.index === work.index && m.where === work.where);
  if (at < 0) {
    merged.push(scaled);
    return;
  }
  const before = merged[at];
  merged[at] = {
    ...before,
    readBytes: addBytes(before.readBytes, scaled.readBytes),
    writeBytes: addBytes(before.writeBytes ?? {}, scaled.writeBytes ?? {}),
    flops: before.flops + scaled.flops,
    ...(scaled.matrixFlops === undefined
      ? {}
      : { matrixFlops: (before.matrixFlops ?? 0) + scaled.matrixFlops }),
    kernels: Math.max(before.kernels, work.kernels),
    ...addCalls(before.call, scaled.call),
  };
};

/** Top-k declarations of several heads: position i of every head is one launch; counts are averaged. */
export const mergeTopK = (merged: TopK[], at: number, topk: TopK, share: number): void => {
  const before: TopK = merged[at] ?? { of: 0, k: 0, rows: 0 };
  merged[at] = {
    of: before.of + topk.of * share,
    k: before.k + topk.k * share,
    rows: before.rows + topk.rows * share,
    keys: topk.keys,
    follows: before.follows ?? topk.follows,
  };
};
