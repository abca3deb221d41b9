/**
 * Eviction once, when the prompt has been read: what SnapKV, SAGE-KV, PyramidKV, Ada-KV, KVzip, Judge Q and LookaheadKV
 * share. Each row (a KV head, or a query head where KV is replicated) keeps its best prompt tokens between the sinks and
 * the most recent ones; generated tokens stay. A policy says how it scores and how many each row keeps.
 */
import * as z from 'zod';
import { topKPositions } from '../quality/top-k.ts';
import type { HeadView, LayerPolicy, PrefillView, Work, World } from './policy.ts';
import { pool, reduceGroup } from './votes.ts';

/** Choices per query head are kept as 32-bit sets; wider groups vote together. */
const MAX_QUERIES = 32;
const EVERY_QUERY = 0xffffffff;

/** How a query group's votes become one: its mean or largest; or not at all, and then KV is stored once a query head. */
export type GroupVote = 'mean' | 'max' | 'per-query';

/** Fields of a policy's configuration that all of them have, with SnapKV's defaults. */
export const evictionFields = {
  budgetTokens: z
    .int()
    .min(1)
    .default(2048)
    .describe('prompt tokens kept per KV head, sinks and window included'),
  kernel: z
    .int()
    .min(1)
    .refine((width) => width % 2 === 1, 'expected an odd number')
    .default(5)
    .describe('width of the pooling along positions, odd; 1 = none'),
  pooling: z.enum(['avg', 'max']).default('avg').describe('pooling along positions'),
  group: z
    .enum(['mean', 'max', 'per-query'])
    .default('mean')
    .describe('vote of a query group; per-query stores KV once a query head'),
};

/** Refinement of a config whose window is part of its budget. */
export const windowInBudget = [
  ({
    budgetTokens,
    windowTokens,
  }: {
    readonly budgetTokens: number;
    readonly windowTokens: number;
  }): boolean => budgetTokens >= windowTokens,
  { path: ['budgetTokens'], message: 'expected at least windowTokens' },
] as const satisfies readonly [unknown, { path: string[]; message: string }];

/** Tokens kept without a vote that leave half of a small budget to the vote. */
export const keptAtBudget = (budgetTokens: number, publishedTokens: number): number =>
  Math.min(publishedTokens, budgetTokens >> 1);

/** Copies of each key that a vote reads and a cache keeps: one a query head where these choose for themselves. */
export const copiesOf = (group: GroupVote, { groupSize }: World): number =>
  group === 'per-query' ? groupSize : 1;

/** Copying what is kept of K and of V to the front, spread over the prompt's tokens. */
export const compactWork = (
  { kBytesPerToken, vBytesPerToken, promptTokens }: World,
  keptTokens: number,
  copies = 1,
): Work => {
  const perToken = copies * (kBytesPerToken + vBytesPerToken);
  const bytes = keptTokens >= promptTokens ? 0 : (perToken * keptTokens) / promptTokens;
  return { index: 'compact', readBytes: { hbm: bytes }, writeBytes: { hbm: bytes }, flops: 0, kernels: 2 };
};

/** The vote that a group of this size can hold: one choice a query head needs 2 to 32 of them. */
export const possibleVote = (group: GroupVote, { groupSize }: World): GroupVote =>
  group === 'per-query' && (groupSize === 1 || groupSize > MAX_QUERIES) ? 'mean' : group;

export interface PromptEviction {
  /** As `possibleVote` has it. */
  readonly group: GroupVote;
  readonly kernel: number;
  readonly pooling: 'avg' | 'max';
  /** First and last prompt tokens that are kept without a vote. */
  readonly sinkTokens: number;
  readonly recentTokens: number;
  /** Scores of a KV head's prompt tokens by query head, none negative: row-major [groupSize, length]. */
  votes(view: PrefillView, head: number): Float32Array;
  /**
   * How many tokens between sinks and recent ones each row keeps: from the rows' scores of these tokens. Rows are KV
   * heads in order, or query heads within KV heads.
   */
  budgets(rows: readonly Float32Array[], view: PrefillView): readonly number[];
}

/** Scores of the tokens that stand for election, one row a KV head or query head. */
const electionRows = (
  view: PrefillView,
  head: number,
  world: World,
  rule: PromptEviction,
): readonly Float32Array[] => {
  const n = view.length;
  const past = n - rule.recentTokens;
  const votes = rule.votes(view, head);
  const rows =
    rule.group === 'per-query'
      ? Array.from({ length: world.groupSize }, (_, g) => votes.subarray(g * n, (g + 1) * n))
      : [reduceGroup(votes, world.groupSize, n, rule.group)];
  return rows.map((row) => pool(row, past, rule.kernel, rule.pooling).subarray(rule.sinkTokens));
};

const bitsOf = (x: number): number => {
  let count = 0;
  for (let bits = x; bits !== 0; bits = (bits & (bits - 1)) >>> 0) count++;
  return count;
};

/** Marks which query heads keep each prompt token, from the scores and budgets of one KV head's rows. */
const chosenOf = (
  n: number,
  rows: readonly Float32Array[],
  budgets: readonly number[],
  { sinkTokens, recentTokens }: PromptEviction,
): Uint32Array => {
  const chosen = new Uint32Array(n).fill(EVERY_QUERY, 0, sinkTokens);
  chosen.fill(EVERY_QUERY, n - recentTokens);
  rows.forEach((row, r) => {
    const mark = rows.length === 1 ? EVERY_QUERY : (1 << r) >>> 0;
    const positions = new Int32Array(row.length);
    const count = topKPositions(row, row.length, budgets[r], positions);
    for (let i = 0; i < count; i++) chosen[sinkTokens + positions[i]] |= mark;
  });
  return chosen;
};

const keepChosen = ({ cache }: HeadView, chosen: Uint32Array, copies: number): void => {
  for (let token = 0; token < chosen.length; token++) {
    if (chosen[token] === 0) cache.drop(token, token + 1);
    else if (copies > 1 && chosen[token] !== EVERY_QUERY) cache.setCopies(token, bitsOf(chosen[token]));
  }
};

/** Drops what lost the vote; returns the marks of each KV head, or null when everything was kept. */
const evict = (view: PrefillView, world: World, rule: PromptEviction): readonly Uint32Array[] | null => {
  if (view.length <= rule.sinkTokens + rule.recentTokens) return null;
  const rows = view.heads.map((_, at) => electionRows(view, at, world, rule));
  const budgets = rule.budgets(rows.flat(), view);
  if (rows.flat().every((row, r) => budgets[r] >= row.length)) return null;
  const perHead = rule.group === 'per-query' ? world.groupSize : 1;
  return view.heads.map((head, at) => {
    const own = budgets.slice(at * perHead, (at + 1) * perHead);
    const chosen = chosenOf(view.length, rows[at], own, rule);
    keepChosen(head, chosen, perHead);
    return chosen;
  });
};

/** The hooks of one layer. With replicated KV each query head attends to its own choice, and to generated tokens. */
export const evictPrompt = (world: World, rule: PromptEviction): LayerPolicy => {
  let chosen: readonly Uint32Array[] | null = null;
  const onPrefill = (view: PrefillView): void => {
    chosen = evict(view, world, rule);
  };
  if (rule.group !== 'per-query') return { onPrefill };
  return {
    onPrefill,
    select(view, picks) {
      if (chosen === null) return;
      const marks = chosen;
      picks.forEach((pick, at) => {
        pick.none();
        for (let token = 0; token < marks[at].length; token++) {
          for (let g = 0; g < world.groupSize; g++)
            if ((marks[at][token] >>> g) & 1) pick.take(token, token + 1, g);
        }
        for (let g = 0; g < world.groupSize; g++) pick.take(marks[at].length, view.length, g);
      });
    },
  };
};
