/**
 * KV footprint: live entries integrated over the steps, divided by dense causal attention's (PruLong,
 * princeton-pli/PruLong eval/viz/kv_footprint.py). `kvFootprint` is the authors' closed form for head-sparse
 * policies; `footprintOf` the same quantity counted from a run.
 */

export interface KvFootprintInput {
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Prefill chunk, tokens. */
  readonly chunkTokens: number;
  readonly sinkTokens: number;
  readonly windowTokens: number;
  /** Share of prompt KV dropped from global heads after each chunk. */
  readonly kvSparsity: number;
  /** Share of heads that keep only sink and window. */
  readonly headSparsity: number;
}

export interface KvFootprint {
  readonly footprint: number;
  readonly peak: number;
}

/** Python's round: halves go to the even neighbour. */
const roundHalfEven = (x: number): number => {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
};

/** Tokens that a global head always keeps of a chunk beside its share (the authors' constant). */
const CHUNK_FLOOR_TOKENS = 64;

/** Closed-form footprint and peak of prefill in chunks, then decode; both are ratios to dense attention. */
export const kvFootprint = (input: KvFootprintInput): KvFootprint => {
  const {
    promptTokens: n,
    outputTokens: m,
    chunkTokens,
    sinkTokens,
    windowTokens,
    kvSparsity,
    headSparsity,
  } = input;
  let streaming = 0;
  let global = 0;
  let kept = 0;
  let peak = 0;
  for (let a = 0; a < n; a += chunkTokens) {
    const c = Math.min(chunkTokens, n - a);
    const window = Math.min(a, windowTokens);
    const sink = Math.min(a - window, sinkTokens);
    streaming += (c * (c + 1)) / 2 + c * (window + sink);
    global += (c * (c + 1)) / 2 + c * kept;
    peak = Math.max(peak, headSparsity * (window + sink + c) + (1 - headSparsity) * (kept + c));
    kept += Math.min(roundHalfEven((1 - kvSparsity) * c) + CHUNK_FLOOR_TOKENS, c);
  }
  for (let t = n; t < n + m; t++) {
    const window = Math.min(t, windowTokens);
    streaming += 1 + window + Math.min(t - window, sinkTokens);
  }
  global += (m * (m + 1)) / 2 + m * kept;
  const total = n + m;
  const lastWindow = Math.min(total - 1, windowTokens);
  const lastSink = Math.min(total - 1 - lastWindow, sinkTokens);
  peak = Math.max(peak, headSparsity * (1 + lastWindow + lastSink) + (1 - headSparsity) * (kept + m));
  return {
    footprint: (headSparsity * streaming + (1 - headSparsity) * global) / ((total * (total + 1)) / 2),
    peak: peak / total,
  };
};

/** Footprint of a counted run: one-shot prefill (a causal triangle), then `liveTokens[s]` entries at decode step s. */
export const footprintOf = (promptTokens: number, liveTokens: readonly number[]): number => {
  let live = (promptTokens * (promptTokens + 1)) / 2;
  let dense = live;
  for (let s = 0; s < liveTokens.length; s++) {
    live += liveTokens[s];
    dense += promptTokens + s + 1;
  }
  return live / dense;
};

export interface Footprints {
  /** Live entries over dense causal attention's, prefill included. */
  readonly tokens: number;
  /** Most live entries at a time, over the tokens of the whole run (dense attention: 1). */
  readonly peakTokens: number;
  /** Bytes held per tier over the decode steps, indexes included, over those of dense KV in the model's precision. */
  readonly bytes: { readonly hbm: number; readonly dram: number; readonly nvme?: number };
}

/** Resident bytes per tier after each decode step, and those of dense attention at the same step. */
export interface HeldBytes {
  readonly hbm: readonly number[];
  readonly dram: readonly number[];
  readonly nvme: readonly number[];
  readonly dense: readonly number[];
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/**
 * Footprints of a counted run in tokens and in bytes: tokens ignore precision and indexes, bytes ignore that prefill
 * comes before. The peak of a one-shot prefill is the prompt, whatever is dropped after it.
 */
export const footprintsOf = (
  promptTokens: number,
  liveTokens: readonly number[],
  held: HeldBytes,
): Footprints => ({
  tokens: footprintOf(promptTokens, liveTokens),
  peakTokens: Math.max(promptTokens, ...liveTokens) / (promptTokens + liveTokens.length),
  bytes: {
    hbm: sum(held.hbm) / sum(held.dense),
    dram: sum(held.dram) / sum(held.dense),
    ...(sum(held.nvme) > 0 ? { nvme: sum(held.nvme) / sum(held.dense) } : {}),
  },
});
