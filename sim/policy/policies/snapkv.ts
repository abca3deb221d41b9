/**
 * SnapKV: the last W prompt queries vote once, their softmax rows are averaged and pooled along positions, and each
 * KV head keeps its best B - W prompt tokens plus the window; generated tokens are never evicted.
 * arXiv 2404.14469; FasterDecoding/SnapKV snapkv_utils.py (W 32, kernel 5, average pooling). The official port
 * replicates KV to query heads first (`group: per-query`, G times the bytes); kvpress averages the group (`mean`).
 */
import * as z from 'zod';
import type { PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget, windowInBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const config = z
  .object({
    ...evictionFields,
    windowTokens: z.int().min(1).default(32).describe('observation window: last prompt tokens, always kept'),
  })
  .refine(...windowInBudget);

export const policy = {
  name: 'snapkv',
  title: 'SnapKV',
  family: 'eviction',
  source: 'arXiv 2404.14469; FasterDecoding/SnapKV',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: keptAtBudget(tokens, 32) }),
  create: ({ windowTokens, ...c }, world) =>
    votePolicy(world, { ...c, voters: windowTokens, sinkTokens: 0, recentTokens: windowTokens }),
} satisfies PolicyPlugin<typeof config>;
