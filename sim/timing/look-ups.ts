/**
 * Scores that are looked up (kernels/cuda/pq-score.cu): products of the queries with all centroids fill a table, in which
 * query heads look up the keys' codes, one head after the other; passes over what they leave join them. Multiply-adds in a
 * row take a hundredth of what a look-up in a random place and its passes do.
 */
import type { ScoreOperation } from '../program/operation.ts';

/** Kernels that look products up for one query head after the other: no tile of tensor cores takes some together. */
const LOOKING_UP: readonly string[] = ['pq-shares'];

export const looksUp = ({ call }: ScoreOperation): boolean =>
  call !== undefined && LOOKING_UP.includes(call.kernel);

export interface LookUps {
  /** Flops that fill the tables. */
  readonly tableFlops: number;
  /** Flops of the look-ups, and of joining heads, which takes as long as those of one more. */
  readonly lookUpFlops: number;
}

/** What of an operation's arithmetic fills tables, and what looks up in them; null where nothing is looked up. */
export const lookUpsOf = (operation: ScoreOperation): LookUps | null => {
  if (!looksUp(operation)) return null;
  const { rows = 1, heads = 1, flops, call } = operation;
  const ofHead = rows * (call?.counts.tokens ?? 0) * (call?.shape?.subspaces ?? 1);
  const asked = Math.min(flops, heads * ofHead);
  return { tableFlops: flops - asked, lookUpFlops: (asked * (heads + 1)) / heads };
};
