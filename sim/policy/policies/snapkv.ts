/**
 * SnapKV: the last W prompt queries vote once, their softmax rows are averaged and pooled along positions, and each
 * KV head keeps its best B - W prompt tokens plus the window; generated tokens are never evicted.
 * arXiv 2404.14469; FasterDecoding/SnapKV snapkv_utils.py (W 32, kernel 5, average pooling). The official port
 * replicates KV to query heads first (`group: per-query`, G times the bytes); kvpress averages the group (`mean`).
 */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import {
  compactWork,
  copiesOf,
  evictionFields,
  evictPrompt,
  keptAtBudget,
  possibleVote,
  windowInBudget,
} from '../prompt-eviction.ts';
import { windowInputs, windowVotes, windowWork } from '../votes.ts';

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
  create: ({ budgetTokens, windowTokens, ...c }, world): Policy => {
    const group = possibleVote(c.group, world);
    const copies = copiesOf(group, world);
    return {
      ...policyDefaults,
      replicated: group === 'per-query',
      inputs: windowInputs(world),
      prefillWork: [windowWork(world, windowTokens, copies), compactWork(world, budgetTokens, copies)],
      layer: () =>
        evictPrompt(world, {
          ...c,
          group,
          sinkTokens: 0,
          recentTokens: windowTokens,
          votes: (view, head) => windowVotes(view, head, windowTokens, world),
          budgets: (rows) => rows.map(() => budgetTokens - windowTokens),
        }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
