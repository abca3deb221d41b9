/**
 * How many tokens each row of scores (a KV head, or a query head) may keep: the best of several rows together (KVzip's
 * one threshold, arXiv 2505.23416), with a guaranteed part (Ada-KV, arXiv 2407.11550), falling from layer to layer
 * (PyramidKV, arXiv 2406.02069). All hold their total exactly.
 */
import { topKThreshold } from '../quality/top-k.ts';
import { layersStoodFor, representativeOf } from '../trace/represent.ts';
import type { World } from './policy.ts';

/** Bytes of the length of a row, which a cache needs where rows differ. */
export const LENGTH_BYTES = 4;

/** How many of the `total` best entries of all rows lie in each row; ties go to earlier rows. Scores are not negative. */
export const sharedBudgets = (rows: readonly Float32Array[], total: number): readonly number[] => {
  const entries = rows.reduce((sum, row) => sum + row.length, 0);
  if (total >= entries) return rows.map((row) => row.length);
  if (total <= 0) return rows.map(() => 0);
  const all = new Float32Array(entries);
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  const { bits, ties } = topKThreshold(all, entries, total);
  let left = ties;
  at = 0;
  return rows.map((row) => {
    const words = new Uint32Array(all.buffer, at * 4, row.length);
    at += row.length;
    let count = 0;
    for (const word of words) if (word > bits || (word === bits && left-- > 0)) count++;
    return count;
  });
};

/**
 * The same over the rows of all replayed layers, which share `meanTokens` a row: by layer, how many tokens each of its
 * rows keeps. A layer counts as often as there are layers of the model that it stands for.
 */
export const modelBudgets = (
  rowsOf: ReadonlyMap<number, readonly Float32Array[]>,
  layers: number,
  meanTokens: number,
): ReadonlyMap<number, readonly number[]> => {
  const weights = layersStoodFor(layers, [...rowsOf.keys()]);
  const rows = [...rowsOf.values()].flatMap((own, at) =>
    own.flatMap((row) => new Array<Float32Array>(weights[at]).fill(row)),
  );
  const counts = sharedBudgets(rows, meanTokens * rows.length);
  const budgets = new Map<number, readonly number[]>();
  let at = 0;
  for (const [layer, own] of rowsOf) {
    const weight = weights[budgets.size];
    // Ties fall to the first copies of a row: their mean, rounded down, stays within the total.
    const meanOf = (copies: readonly number[]): number =>
      Math.floor(copies.reduce((a, b) => a + b, 0) / weight);
    const first = at;
    const copiesOf = (row: number) => counts.slice(first + row * weight, first + (row + 1) * weight);
    budgets.set(
      layer,
      own.map((_, row) => meanOf(copiesOf(row))),
    );
    at += own.length * weight;
  }
  return budgets;
};

/** Whole numbers near `shares` with the same sum, which must be whole; what is left goes to the largest fractions. */
const rounded = (shares: readonly number[]): readonly number[] => {
  const counts = shares.map((share) => Math.floor(share));
  const left = Math.round(shares.reduce((a, b) => a + b, 0)) - counts.reduce((a, b) => a + b, 0);
  const order = shares
    .map((_, i) => i)
    .sort((a, b) => shares[b] - counts[b] - (shares[a] - counts[a]) || a - b);
  for (const row of order.slice(0, left)) counts[row]++;
  return counts;
};

export interface Adaptive {
  /** Tokens of one row on average. */
  readonly budgetTokens: number;
  /** Part of it that every row gets whatever its scores say, 0..1. */
  readonly safeguard: number;
  /** Weigh a row by the share of its score that its best `budgetTokens` hold, before rows are compared. */
  readonly normalize: boolean;
}

/** The row times the share of its sum that its k best entries hold. */
const weighed = (row: Float32Array, k: number): Float32Array => {
  const sorted = Float32Array.from(row).sort().reverse();
  let best = 0;
  let sum = 0;
  for (let i = 0; i < sorted.length; i++) {
    sum += sorted[i];
    if (i < k) best += sorted[i];
  }
  const weight = sum === 0 ? 1 : best / sum;
  return row.map((score) => score * weight);
};

/**
 * Ada-KV: rows share rows.length · budgetTokens by their scores, blended with an even split. The official code
 * (FFY0/AdaKV snapkv_utils.py) rounds row by row, which misses the total by up to half a token a row; this does not.
 */
export const adaptiveBudgets = (
  rows: readonly Float32Array[],
  { budgetTokens, safeguard, normalize }: Adaptive,
): readonly number[] => {
  if (rows.length === 0) return [];
  const each = Math.min(budgetTokens, rows[0].length);
  const compared = normalize ? rows.map((row) => weighed(row, each)) : rows;
  const free = sharedBudgets(compared, each * rows.length);
  return rounded(free.map((count) => (1 - safeguard) * count + safeguard * each));
};

/**
 * PyramidKV: a layer's budget on a straight line from layer 0 to the last, the mean over all layers being `meanTokens`;
 * the last layer gets meanTokens / beta, unless the first would exceed `limitTokens`, which then flattens the line.
 * (Zefan-Cai/KVCache-Factory pyramidkv_utils.py, there with steps rounded down.)
 */
export const pyramidBudget = (
  layer: number,
  layers: number,
  meanTokens: number,
  beta: number,
  limitTokens: number,
): number => {
  const mean = Math.min(meanTokens, limitTokens);
  const most = Math.min(2 * mean - Math.floor(mean / beta), limitTokens);
  const least = 2 * mean - most;
  if (layers === 1) return mean;
  const line = (l: number): number => most - ((most - least) * l) / (layers - 1);
  // Rounded towards the even split from both ends, so that mirrored layers add up to twice the mean.
  const mirrored = layers - 1 - layer;
  if (layer === mirrored) return mean;
  return layer < mirrored ? Math.floor(line(layer)) : 2 * mean - Math.floor(line(mirrored));
};

/** A replayed layer's `pyramidBudget`: the mean over the layers that it stands for, so that the model's total holds. */
export const pyramidShare = (
  layer: number,
  { layers, replayed }: World,
  meanTokens: number,
  beta: number,
  limitTokens: number,
): number => {
  let sum = 0;
  let count = 0;
  for (let l = 0; l < layers; l++) {
    if (representativeOf(l, replayed?.layers ?? [l]) !== layer) continue;
    sum += pyramidBudget(l, layers, meanTokens, beta, limitTokens);
    count++;
  }
  return Math.round(sum / count);
};
