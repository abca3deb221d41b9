/**
 * LookaheadKV: n learned tokens ride behind the prompt, with low-rank adapters that only they pass; what they attend to
 * stands for what the answer will, and each KV head keeps its best prompt tokens. arXiv 2603.10899 (32 tokens, rank 8
 * on every linear; trained to match the mean attention of the real answer's queries, which score=oracle takes).
 * Pooling, the group's vote, sinks and the recent window were not found: a max pool of 7, the mean, 4 and 32 are assumed.
 */
import * as z from 'zod';
import { addNoise, answerFields, answerInputs, answerVotes, scoreSource } from '../answer-votes.ts';
import type { Policy, PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const SINKS = 4;

const config = z
  .object({
    ...evictionFields,
    ...answerFields,
    budgetTokens: evictionFields.budgetTokens.default(1024),
    kernel: evictionFields.kernel.default(7),
    pooling: evictionFields.pooling.default('max'),
    lookaheadTokens: z.int().min(1).default(32).describe('learned tokens behind the prompt, which vote'),
    loraRank: z
      .int()
      .min(0)
      .default(8)
      .describe('rank of the adapters that the learned tokens pass; 0 = none'),
    sinkTokens: z.int().min(0).default(SINKS).describe('first prompt tokens, always kept'),
    windowTokens: z
      .int()
      .min(1)
      .default(32)
      .describe('last prompt tokens, always kept; with score=window they vote'),
    noise: z
      .number()
      .min(0)
      .max(10)
      .default(0)
      .describe(
        'with score=oracle: standard deviation of the error of log scores, for a prediction that errs',
      ),
  })
  .refine((c) => c.budgetTokens >= c.sinkTokens + c.windowTokens, {
    path: ['budgetTokens'],
    message: 'expected at least sinkTokens + windowTokens',
  });

export const policy = {
  name: 'lookaheadkv',
  title: 'LookaheadKV',
  family: 'eviction',
  source: 'arXiv 2603.10899',
  requires: ['k', 'q'],
  prefers: ['utility', 'qprompt'],
  config,
  atBudget: (tokens) => ({
    budgetTokens: tokens,
    sinkTokens: SINKS,
    windowTokens: keptAtBudget(tokens, 32 + SINKS) - SINKS,
  }),
  create: ({ lookaheadTokens, loraRank, windowTokens, noise, ...c }, world): Policy => {
    const source = scoreSource('lookaheadkv', c.score, world);
    const error =
      source === 'oracle' && noise > 0 ? `, with a deviation of ${noise} of their logarithms` : '';
    return {
      ...votePolicy(world, { ...c, voters: lookaheadTokens, recentTokens: windowTokens }, () => ({
        votes(view, head) {
          const votes = answerVotes(view, head, world, { ...c, windowTokens, source, over: 'mean' });
          return source === 'oracle' ? addNoise(votes, noise, view.heads[head].random) : votes;
        },
      })),
      oracle: source === 'oracle',
      inputs: answerInputs(source, 'that of the trained lookahead tokens', world) + error,
      extraPass: {
        tokens: lookaheadTokens,
        contextTokens: world.promptTokens + (lookaheadTokens + 1) / 2,
        passes: 0,
        adapterRank: loraRank,
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
