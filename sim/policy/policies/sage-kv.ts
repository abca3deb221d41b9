/**
 * SAGE-KV: the last query of the prompt ranks the tokens between the sinks and a recent window, once; each KV head keeps
 * its best, and the recent window slides on through decoding, so the cache stays at its budget. arXiv 2503.08879.
 * How the paper splits the budget and what a query group does were not found: half of it is recent here, the group's mean.
 */
import * as z from 'zod';
import type { Policy, PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const SINKS = 4;

const config = z
  .object({
    ...evictionFields,
    kernel: evictionFields.kernel.default(1),
    sinkTokens: z.int().min(0).default(SINKS).describe('first tokens, always kept'),
    recentTokens: z
      .int()
      .min(1)
      .default(1024)
      .describe('most recent tokens, kept as a window that slides in decoding'),
    voters: z.int().min(1).default(1).describe('last prompt queries that rank; the paper takes one'),
  })
  .refine((c) => c.budgetTokens >= c.sinkTokens + c.recentTokens, {
    path: ['budgetTokens'],
    message: 'expected at least sinkTokens + recentTokens',
  });

export const policy = {
  name: 'sage-kv',
  title: 'SAGE-KV',
  family: 'eviction',
  source: 'arXiv 2503.08879',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({
    budgetTokens: tokens,
    sinkTokens: SINKS,
    recentTokens: keptAtBudget(tokens, 1024) - SINKS,
  }),
  create: (c, world): Policy => {
    const vote = votePolicy(world, c);
    return {
      ...vote,
      layer: (layer) => ({
        ...vote.layer(layer),
        onAppend(view) {
          if (view.length <= c.budgetTokens) return;
          const oldest = view.length - 1 - c.recentTokens;
          for (const head of view.heads) head.cache.drop(oldest, oldest + 1);
        },
      }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
