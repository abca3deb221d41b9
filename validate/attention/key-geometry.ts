/**
 * The geometry of a KV head's keys that scorers depend on: how alike neighbours are, how large the common mean is, how
 * many directions deviations take, how norms spread; and how well two summaries of a page rank it by its mass.
 */
import { attendExactly, createExactAttention } from '../../sim/quality/exact-attention.ts';
import { topKPositions } from '../../sim/quality/top-k.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';

export const correlationLags = [1, 4, 64] as const;
const pageTokens = 16;
/** Pages that a scorer may take, as a share of all. */
const takenRatio = 1 / 16;
/** First tokens left out: sinks are no ordinary keys. */
const skippedTokens = 64;

export interface KeyGeometry {
  /** Correlation of the deviations of keys 1, 4 and 64 tokens apart. */
  readonly correlation: readonly number[];
  /** Share of the mean squared norm that the mean key has. */
  readonly meanRatio: number;
  /** Participation ratio of the covariance: (Σλ)² ÷ Σλ². */
  readonly effectiveRank: number;
  /** Coefficient of variation of the norm. */
  readonly normSpread: number;
  /** Mass on the sixteenth of the pages ranked highest by channel bounds (Quest), and by mean key, over the best possible. */
  readonly boundRecall: number;
  readonly meanRecall: number;
}

/** Over recorded (rotated) keys; page recalls are means over the group's query heads at `steps` decode steps. */
export function keyGeometry(
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  steps: readonly number[],
): KeyGeometry {
  const { headDim, promptTokens } = trace.shape;
  const keys = trace.keys(layer, kvHead).subarray(0, promptTokens * headDim);
  const ordinary = keys.subarray(skippedTokens * headDim);
  const { mean, deviations, meanRatio, normSpread } = spreadOf(ordinary, headDim);
  const square = sumOfProducts(deviations, deviations, 0);
  return {
    correlation: correlationLags.map((lag) => sumOfProducts(deviations, deviations, lag * headDim) / square),
    meanRatio,
    effectiveRank: participation(deviations, mean.length),
    normSpread,
    ...pageRecalls(trace, layer, kvHead, steps),
  };
}

function spreadOf(
  rows: Float32Array,
  width: number,
): { mean: Float64Array; deviations: Float32Array; meanRatio: number; normSpread: number } {
  const count = rows.length / width;
  const mean = new Float64Array(width);
  let [norms, squares] = [0, 0];
  for (let at = 0; at < rows.length; at += width) {
    let square = 0;
    for (let c = 0; c < width; c++) {
      mean[c] += rows[at + c] / count;
      square += rows[at + c] * rows[at + c];
    }
    norms += Math.sqrt(square);
    squares += square;
  }
  const meanNorm = norms / count;
  const meanSquare = squares / count;
  return {
    mean,
    deviations: rows.map((x, i) => x - mean[i % width]),
    meanRatio: mean.reduce((sum, x) => sum + x * x, 0) / meanSquare,
    normSpread: Math.sqrt(Math.max(0, meanSquare - meanNorm * meanNorm)) / meanNorm,
  };
}

function sumOfProducts(a: Float32Array, b: Float32Array, ahead: number): number {
  let sum = 0;
  for (let i = 0; i + ahead < a.length; i++) sum += a[i] * b[i + ahead];
  return sum;
}

function participation(rows: Float32Array, width: number): number {
  const covariance = new Float64Array(width * width);
  for (let at = 0; at < rows.length; at += width)
    for (let a = 0; a < width; a++)
      for (let b = 0; b <= a; b++) covariance[a * width + b] += rows[at + a] * rows[at + b];
  let [trace, square] = [0, 0];
  for (let a = 0; a < width; a++) {
    trace += covariance[a * width + a];
    for (let b = 0; b <= a; b++) square += (a === b ? 1 : 2) * covariance[a * width + b] ** 2;
  }
  return square > 0 ? (trace * trace) / square : 0;
}

interface Pages {
  readonly count: number;
  readonly low: Float32Array;
  readonly high: Float32Array;
  readonly mean: Float32Array;
}

function summarise(keys: Float32Array, width: number, count: number): Pages {
  const low = new Float32Array(count * width).fill(Number.POSITIVE_INFINITY);
  const high = new Float32Array(count * width).fill(Number.NEGATIVE_INFINITY);
  const mean = new Float32Array(count * width);
  for (let i = 0; i < count * pageTokens * width; i++) {
    const at = Math.floor(i / (pageTokens * width)) * width + (i % width);
    low[at] = Math.min(low[at], keys[i]);
    high[at] = Math.max(high[at], keys[i]);
    mean[at] += keys[i] / pageTokens;
  }
  return { count, low, high, mean };
}

function pageRecalls(
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  steps: readonly number[],
): { boundRecall: number; meanRecall: number } {
  const { headDim, heads, kvHeads, promptTokens } = trace.shape;
  const group = heads / kvHeads;
  const keys = trace.keys(layer, kvHead);
  const pages = summarise(keys, headDim, Math.floor(promptTokens / pageTokens));
  const taken = Math.max(1, Math.round(pages.count * takenRatio));
  const exact = createExactAttention(group, promptTokens + trace.shape.steps, 0);
  const chosen = new Int32Array(pages.count);
  const recallOf = (ranks: Float32Array, mass: Float32Array): number => {
    const least = ranks.reduce((a, b) => Math.min(a, b));
    const count = topKPositions(
      ranks.map((x) => x - least),
      pages.count,
      taken,
      chosen,
    );
    return chosen.subarray(0, count).reduce((sum, page) => sum + mass[page], 0);
  };
  const sum = { bound: 0, mean: 0, count: 0 };
  for (const step of steps) {
    const queries = trace.queries(layer, step, kvHead);
    attendExactly(exact, queries, keys, null, headDim, promptTokens + step + 1);
    for (let g = 0; g < group; g++) {
      const mass = new Float32Array(pages.count);
      for (let t = 0; t < pages.count * pageTokens; t++)
        mass[Math.floor(t / pageTokens)] += exact.probabilities[g * exact.stride + t];
      const query = queries.subarray(g * headDim, (g + 1) * headDim);
      const { bounds, means } = rankPages(pages, query);
      const best = recallOf(mass, mass);
      sum.bound += recallOf(bounds, mass) / best;
      sum.mean += recallOf(means, mass) / best;
      sum.count++;
    }
  }
  return { boundRecall: sum.bound / sum.count, meanRecall: sum.mean / sum.count };
}

function rankPages(
  { count, low, high, mean }: Pages,
  query: Float32Array,
): { bounds: Float32Array; means: Float32Array } {
  const width = query.length;
  const bounds = new Float32Array(count);
  const means = new Float32Array(count);
  for (let page = 0, at = 0; page < count; page++) {
    for (let c = 0; c < width; c++, at++) {
      const q = query[c];
      bounds[page] += q > 0 ? q * high[at] : q * low[at];
      means[page] += q * mean[at];
    }
  }
  return { bounds, means };
}
