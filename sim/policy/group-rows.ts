/**
 * How the query heads of a group agree on one score per key: the reducer is part of a policy, and with grouped-query
 * attention it changes what is kept. `per-query` means that they do not agree: each keeps its own tokens, and KV is
 * replicated to query heads, as the ports of several policies to grouped-query models do.
 */
import * as z from 'zod';
import type { World } from './policy.ts';
import { reduceRows } from './ranking.ts';

export const groupField = z
  .enum(['mean', 'max', 'per-query'])
  .default('mean')
  .describe('score of a query group; per-query replicates KV to query heads');
export type GroupChoice = z.infer<typeof groupField>;

/** Choices per query head are kept as 32-bit sets. */
const MAX_QUERIES = 32;

/** The choice as far as the model allows it: one query head a group, or more than 32, decide together. */
export const groupChoiceOf = (wanted: GroupChoice, { groupSize }: World): GroupChoice =>
  wanted === 'per-query' && (groupSize === 1 || groupSize > MAX_QUERIES) ? 'mean' : wanted;

/** Who keeps tokens of a KV head: each query head, or the group as one. */
export const choosersOf = (group: GroupChoice, { groupSize }: World): number =>
  group === 'per-query' ? groupSize : 1;

/** Rows of the query heads, row-major [groupSize, length], as rows of the choosers; `per-query` is the input itself. */
export const groupRows = (
  rows: Float32Array,
  groupSize: number,
  length: number,
  group: GroupChoice,
): Float32Array => {
  if (group === 'per-query' || groupSize === 1) return rows;
  const out = new Float32Array(length);
  reduceRows(rows, groupSize, length, length, group, out);
  return out;
};
