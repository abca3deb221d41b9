/**
 * Rows of scores of a query group as rows of those who choose: one for the group, or one a query head where KV is
 * replicated to query heads and each keeps its own tokens. The reducer is part of a policy: it changes what is kept.
 */
import type { World } from './policy.ts';
import type { GroupVote } from './prompt-eviction.ts';
import { reduceGroup } from './votes.ts';

/** Who keeps tokens of a KV head: each query head, or the group as one. */
export const choosersOf = (group: GroupVote, { groupSize }: World): number =>
  group === 'per-query' ? groupSize : 1;

/** Rows of the query heads, row-major [groupSize, length], as rows of the choosers; `per-query` is the input itself. */
export const groupRows = (
  rows: Float32Array,
  groupSize: number,
  length: number,
  group: GroupVote,
): Float32Array => (group === 'per-query' ? rows : reduceGroup(rows, groupSize, length, group));

/** The mean of a group's queries [groupSize, headDim], for policies that search once per KV head. */
export const meanQuery = (
  q: Float32Array,
  { groupSize, headDim }: Pick<World, 'groupSize' | 'headDim'>,
): Float64Array => {
  const mean = new Float64Array(headDim);
  for (let g = 0; g < groupSize; g++)
    for (let c = 0; c < headDim; c++) mean[c] += q[g * headDim + c] / groupSize;
  return mean;
};
