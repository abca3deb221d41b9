/**
 * Scores of a query group in kernel calls: how those of its query heads become one (`reduce`), and random bf16 and f32
 * arrays of cases. The reducers are those of sim/policy/ranking.ts.
 */

import { toBf16 } from './floats.ts';
import type { Random } from './random.ts';

/** Values of the integer `reduce`: every query head for itself, or one score a group. */
export const REDUCE = { perQuery: 0, max: 1, mean: 2, sum: 3 } as const;

/** Rows of scores that a group of query heads leaves. */
export const scoreRows = (group: number, reduce: number): number => (reduce === REDUCE.perQuery ? group : 1);

/** Writes `count` scores a query, scores[g][i], at `at` of `out`, reduced; rows are `stride` apart. */
export const writeScores = (
  scores: readonly Float64Array[],
  reduce: number,
  out: Float32Array,
  at: number,
  stride: number,
): void => {
  const [first, ...rest] = scores;
  if (reduce === REDUCE.perQuery) {
    scores.forEach((row, g) => {
      for (let i = 0; i < row.length; i++) out[at + g * stride + i] = row[i];
    });
    return;
  }
  const factor = reduce === REDUCE.mean ? 1 / scores.length : 1;
  for (let i = 0; i < first.length; i++) {
    let value = first[i];
    for (const row of rest) value = reduce === REDUCE.max ? Math.max(value, row[i]) : value + row[i];
    out[at + i] = value * factor;
  }
};

export const randomF32 = (random: Random, count: number, scale = 1): Uint8Array =>
  new Uint8Array(Float32Array.from({ length: count }, () => scale * random.normal()).buffer);

export const randomBf16 = (random: Random, count: number): Uint8Array =>
  toBf16(Float64Array.from({ length: count }, () => random.normal()));

export const u32Bytes = (values: ArrayLike<number>): Uint8Array =>
  new Uint8Array(Uint32Array.from(values).buffer);

/** A random order of 0 .. count-1. */
export const shuffled = (random: Random, count: number): Uint32Array => {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};
