/**
 * Judge Q: trained soft tokens ride behind the prompt, and their attention replaces SnapKV's window as the vote; only
 * their embeddings are trained, so the model and its answers stay as they are. arXiv 2509.10798. The number of soft
 * tokens, the pooling and the group's vote were not found: SnapKV's are taken, and 32 tokens.
 */
import * as z from 'zod';
import { answerFields, answerInputs, answerVotes, scoreSource } from '../answer-votes.ts';
import type { Policy, PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget, windowInBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const config = z
  .object({
    ...evictionFields,
    ...answerFields,
    softTokens: z.int().min(1).default(32).describe('trained tokens behind the prompt, which vote'),
    windowTokens: z
      .int()
      .min(1)
      .default(32)
      .describe('last prompt tokens, always kept; with score=window they vote'),
  })
  .refine(...windowInBudget);

export const policy = {
  name: 'judge-q',
  title: 'Judge Q',
  family: 'eviction',
  source: 'arXiv 2509.10798',
  requires: ['k', 'q'],
  prefers: ['utility', 'qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: keptAtBudget(tokens, 32) }),
  create: ({ softTokens, windowTokens, ...c }, world): Policy => {
    const source = scoreSource('judge-q', c.score, world);
    const vote = { ...c, voters: softTokens, sinkTokens: 0, recentTokens: windowTokens };
    return {
      ...votePolicy(world, vote, () => ({
        votes: (view, head) => answerVotes(view, head, world, { ...c, windowTokens, source, over: 'mean' }),
      })),
      oracle: source === 'oracle',
      inputs: answerInputs(source, 'those of the trained soft tokens', world),
      extraPass: {
        tokens: softTokens,
        contextTokens: world.promptTokens + (softTokens + 1) / 2,
        passes: 0,
        adapterRank: 0,
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
