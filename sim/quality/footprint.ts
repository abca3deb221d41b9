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
