/**
 * How much attention later queries will pay to a key, from the prompt's last queries alone: if q·k/√d is normal over
 * queries, the expected weight is exp(mean + variance / 2). A score per token that needs no future and can be given to each
 * new key as it is written. The idea is AdaEA's, a baseline of EMCLab-Sinica/WG-KV (create_adaea_g_scores).
 */
import { log } from '../engine/math.ts';
import { logitsInto, softmaxInPlace } from '../quality/exact-attention.ts';
import type { WindowQueries, World } from './policy.ts';

/** Entries of the logits of one pass: 4 MiB. */
const PASS_FLOATS = 2 ** 20;

export class ExpectedAttention {
  private readonly window: WindowQueries;
  private readonly groupSize: number;
  private readonly headDim: number;
  /** Per query head: log of the sum over the prompt, which makes the heads of a group comparable. */
  private readonly logSums: Float64Array;

  /** `window`: the queries; `keys`: rows of the prompt, [promptTokens, headDim]. */
  constructor(window: WindowQueries, keys: Float32Array, { groupSize, headDim, promptTokens }: World) {
    this.window = window;
    this.groupSize = groupSize;
    this.headDim = headDim;
    this.logSums = new Float64Array(groupSize);
    const rows = new Float32Array(groupSize * promptTokens);
    this.logitsOf(keys, 0, promptTokens, rows);
    for (let g = 0; g < groupSize; g++) {
      const [largest, sum] = softmaxInPlace(rows.subarray(g * promptTokens), promptTokens);
      this.logSums[g] = largest + log(sum);
    }
  }

  /** Writes the scores of tokens [from, to) to out[0 ..]: log of the largest expected share over the group. */
  scoreInto(keys: Float32Array, from: number, to: number, out: Float32Array): void {
    const n = to - from;
    const rows = new Float32Array(this.groupSize * n);
    this.logitsOf(keys, from, to, rows);
    for (let i = 0; i < n; i++) {
      let largest = -Infinity;
      for (let g = 0; g < this.groupSize; g++) largest = Math.max(largest, rows[g * n + i] - this.logSums[g]);
      out[i] = largest;
    }
  }

  /** Mean plus half the variance of the window's logits on tokens [from, to): row-major [groupSize, to - from]. */
  private logitsOf(keys: Float32Array, from: number, to: number, out: Float32Array): void {
    const { groupSize, headDim, window } = this;
    const { windowTokens, q } = window;
    const rows = windowTokens * groupSize;
    const n = to - from;
    const pass = Math.max(1, Math.min(n, Math.floor(PASS_FLOATS / rows)));
    const logits = new Float32Array(rows * pass);
    for (let first = 0; first < n; first += pass) {
      const count = Math.min(pass, n - first);
      logitsInto(q, rows, keys.subarray((from + first) * headDim), headDim, count, logits, pass);
      for (let g = 0; g < groupSize; g++) {
        for (let i = 0; i < count; i++) {
          let sum = 0;
          let squares = 0;
          for (let w = 0, at = g * pass + i; w < windowTokens; w++, at += groupSize * pass) {
            sum += logits[at];
            squares += logits[at] * logits[at];
          }
          const mean = sum / windowTokens;
          out[g * n + first + i] = mean + (squares / windowTokens - mean * mean) / 2;
        }
      }
    }
  }
}
