/**
 * The attention output of an executed step against exact attention in float64 over the same rows as they are stored: real
 * keys, values and queries are laid where the chosen tokens lie, the step runs, and one row of the last layer is compared.
 * What a copy brings is laid in host memory, so a wrong gather shows as a wrong output.
 */
import type { Backend } from '../../kernels/backend.ts';
import type { Ref } from '../../kernels/calls.ts';
import { bf16Of, f32View, ofBf16, u16View, u32View } from '../../kernels/floats.ts';
import type { HeadChoice, TokenRun } from '../../sim/decode/head-choice.ts';
import type { BoundStep } from './bind.ts';
import { stepCalls } from './execute.ts';
import { type Memory, plus } from './memory.ts';

/** The rows of one KV head: post-RoPE keys and values [tokens, headDim], queries of its group [group, headDim]. */
export interface RealRows {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly queries: Float32Array;
}

/** One row of attention: the first sequence's first head in the last layer, whose landing no later layer overwrites. */
interface Probe {
  readonly layer: number;
  readonly head: HeadChoice;
  readonly rowTokens: number;
  readonly pageTokens: number;
}

const probeOf = ({ workload, placement, pools, groups }: BoundStep): Probe | string => {
  const layer = workload.program.layers.length - 1;
  const [head] = placement.layers[layer].heads;
  const { transfer } = workload.program;
  const pageTokens = pools.pageTokens[layer][0];
  if (head.isCopied) return 'KV is kept once a query head';
  if (head.runs.some(({ form }) => form !== 0)) return 'coded KV';
  if (head.estimatedRows > 0) return 'rows that stand for others';
  if (groups[layer].attended.length === 0) return 'no attention';
  const fetches = head.runs.some(({ place }) => place === 'fetched');
  if (fetches && !transfer.joinKv && transfer.rowTokens !== 1 && transfer.rowTokens !== pageTokens)
    return 'halves of a row in smaller pages';
  return { layer, head, rowTokens: transfer.rowTokens, pageTokens };
};

/** Bytes from a pool's start to a slot's key and value. */
const slotOffsets = (slot: number, pageTokens: number, headDim: number): readonly [number, number] => {
  const page = Math.floor(slot / pageTokens) * pageTokens * 4 * headDim;
  const place = (slot % pageTokens) * 2 * headDim;
  return [page + place, page + pageTokens * 2 * headDim + place];
};

/** Where the key and value of a far token lie in the layer's region of host memory. */
const farOffsets = (
  { placement, workload }: BoundStep,
  { layer, rowTokens, pageTokens }: Probe,
  slot: number,
  order: number,
  place: TokenRun['place'],
): readonly [number, number] => {
  const { headDim } = workload.dimensions;
  const { joinHeads, joinKv } = workload.program.transfer;
  // In one piece, tokens lie in the order in which they are attended; the CPU attends to them where they lie.
  if (rowTokens === Infinity && place === 'fetched') return slotOffsets(order, pageTokens, headDim);
  if (place === 'cpu') return slotOffsets(slot, pageTokens, headDim);
  const heads = placement.layers[layer].heads.length;
  const block = Math.floor(slot / rowTokens);
  const within = slot % rowTokens;
  if (joinHeads) return slotOffsets(block * rowTokens * heads + within, pageTokens, headDim);
  if (joinKv) return slotOffsets(slot, pageTokens, headDim);
  const rowBytes = rowTokens * 2 * headDim;
  const blocks = placement.hostSlotsPerHead(layer, 0) / rowTokens;
  const inRow = within * 2 * headDim;
  return [block * rowBytes + inRow, (blocks + block) * rowBytes + inRow];
};

const bf16Bytes = (row: ArrayLike<number>): Uint8Array =>
  new Uint8Array(Uint16Array.from(row, bf16Of).buffer);

/** Pieces of a buffer gathered into few writes: neighbours within a window are read, patched and written back. */
class Patches {
  private readonly pieces: { readonly at: number; readonly data: Uint8Array }[] = [];

  add(at: number, data: Uint8Array): void {
    this.pieces.push({ at, data });
  }

  async write(memory: Memory, origin: Ref): Promise<void> {
    const sorted = [...this.pieces].sort((a, b) => a.at - b.at);
    for (let i = 0; i < sorted.length; ) {
      const from = sorted[i].at;
      let last = i;
      let end = from + sorted[i].data.length;
      while (last + 1 < sorted.length && sorted[last + 1].at - end < 4096) {
        last++;
        end = Math.max(end, sorted[last].at + sorted[last].data.length);
      }
      const image = await memory.read(plus(origin, from), end - from);
      for (const { at, data } of sorted.slice(i, last + 1)) image.set(data, at - from);
      await memory.write(plus(origin, from), image);
      i = last + 1;
    }
  }
}

const rowOf = (of: Float32Array, token: number, headDim: number): Uint8Array =>
  bf16Bytes(of.subarray(token * headDim, (token + 1) * headDim));

/** Rows of a step that lays them side by side, where it takes them from. */
const layScattered = async (memory: Memory, step: BoundStep, probe: Probe, rows: RealRows): Promise<void> => {
  const { headDim } = step.workload.dimensions;
  const target = step.pools.laidPlace(probe.layer);
  const gather = step.binding.calls.findLast(
    ({ kernel, refs }) =>
      kernel === 'gather' && refs.target.buffer === target.buffer && refs.target.offset === target.offset,
  );
  if (gather === undefined) throw new Error('no call lays the rows of the last layer side by side');
  const { rowBytes, sourceStride } = gather.ints;
  const index = u32View(await memory.read(gather.refs.index, 4 * gather.ints.rows));
  const sourceOf = (at: number): number => index[Math.floor(at / rowBytes)] * sourceStride + (at % rowBytes);
  const patches = new Patches();
  let order = 0;
  for (const { from, count } of probe.head.runs)
    for (let token = from; token < from + count; token++) {
      const [key, value] = slotOffsets(order++, probe.pageTokens, headDim);
      patches.add(sourceOf(key), rowOf(rows.keys, token, headDim));
      patches.add(sourceOf(value), rowOf(rows.values, token, headDim));
    }
  await patches.write(memory, gather.refs.source);
};

/** Rows where they lie near and far, and the newest where it is appended from. */
const layInPlace = async (memory: Memory, step: BoundStep, probe: Probe, rows: RealRows): Promise<void> => {
  const { headDim } = step.workload.dimensions;
  const { layer, head, pageTokens } = probe;
  const row = (of: Float32Array, token: number) => rowOf(of, token, headDim);
  const base = step.placement.residentBase(layer);
  const near = new Patches();
  const far = new Patches();
  let order = 0;
  for (const run of head.runs) {
    for (let i = 0; i < run.count; i++) {
      const token = run.from + i;
      const inHbm = run.place === 'hbm';
      const [key, value] = inHbm
        ? slotOffsets(base + run.slot + i, pageTokens, headDim)
        : farOffsets(step, probe, run.slot + i, order, run.place);
      if (!inHbm) order++;
      const to = inHbm ? near : far;
      to.add(key, row(rows.keys, token));
      to.add(value, row(rows.values, token));
    }
  }
  await near.write(memory, step.pools.pools[0]);
  await far.write(memory, step.pools.regions[layer][0]);
  const append = step.binding.calls.findLast(({ kernel }) => kernel === 'append');
  if (append === undefined) return;
  await memory.write(append.refs.k, row(rows.keys, head.length - 1));
  await memory.write(append.refs.v, row(rows.values, head.length - 1));
};

/** A number as caches hold it: rounding what a trace holds as float32 is no work of the kernels. */
const stored = (value: number): number => ofBf16(bf16Of(value));

/** Exact attention of query head `query` over the chosen tokens, of rows and queries as they are stored. */
const exact = ({ runs }: HeadChoice, rows: RealRows, query: number, headDim: number): Float64Array => {
  const logits: number[] = [];
  const tokens: number[] = [];
  for (const { from, count, queries } of runs) {
    if (((queries >> query) & 1) === 0) continue;
    for (let token = from; token < from + count; token++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++)
        dot += stored(rows.queries[query * headDim + d]) * stored(rows.keys[token * headDim + d]);
      logits.push(dot / Math.sqrt(headDim));
      tokens.push(token);
    }
  }
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const out = new Float64Array(headDim);
  let sum = 0;
  tokens.forEach((token, i) => {
    const weight = Math.exp(logits[i] - most);
    sum += weight;
    for (let d = 0; d < headDim; d++) out[d] += weight * stored(rows.values[token * headDim + d]);
  });
  return out.map((x) => (sum > 0 ? x / sum : 0));
};

export interface OutputCheck {
  /** ‖out − exact‖ / ‖exact‖ over the row's query heads; null where it cannot be compared. */
  readonly outputError: number | null;
  readonly note: string | null;
}

/** Lays real rows, runs the step once, and compares. `rowsOf` = rows of a KV head in a layer of the model; null = not known. */
export const checkOutput = async (
  backend: Backend,
  memory: Memory,
  step: BoundStep,
  rowsOf: (layer: number, kvHead: number) => RealRows | null,
): Promise<OutputCheck> => {
  const probe = probeOf(step);
  if (typeof probe === 'string') return { outputError: null, note: probe };
  const { layer, head } = probe;
  const rows = rowsOf(step.workload.program.layers[layer].replayedLayer ?? layer, head.kvHead);
  if (rows === null) return { outputError: null, note: 'the trace has no rows of this layer' };
  await (step.placement.laysOut(layer) ? layScattered : layInPlace)(memory, step, probe, rows);
  await memory.write(step.groups[layer].queries, bf16Bytes(rows.queries));
  await backend.run(stepCalls(memory, step), { warmups: 0, repeats: 1 });
  const { headDim } = step.workload.dimensions;
  const { group, parts, out } = step.groups[layer];
  const bytes = await memory.read(out, group * headDim * (parts > 1 ? 4 : 2));
  const got = parts > 1 ? f32View(bytes) : Float64Array.from(u16View(bytes), ofBf16);
  let off = 0;
  let size = 0;
  for (let query = 0; query < group; query++) {
    exact(head, rows, query, headDim).forEach((want, d) => {
      off += (got[query * headDim + d] - want) ** 2;
      size += want * want;
    });
  }
  return { outputError: Math.sqrt(off / size), note: null };
};
