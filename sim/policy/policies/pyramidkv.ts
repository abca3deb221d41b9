/**
 * PyramidKV: SnapKV's vote with budgets that fall linearly from the first layer to the last, the same in total.
 * arXiv 2406.02069; Zefan-Cai/KVCache-Factory pyramidkv_utils.py (beta 20) and run_longbench.py (window 8, kernel 7,
 * max pooling). The official port replicates KV to query heads (`group: per-query`).
 */
import * as z from 'zod';
import { pyramidShare } from '../budgets.ts';
import type { PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget, windowInBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const config = z
  .object({
    ...evictionFields,
    budgetTokens: evictionFields.budgetTokens.describe(
      'prompt tokens kept per KV head, mean over layers, window included',
    ),
    kernel: evictionFields.kernel.default(7),
    pooling: evictionFields.pooling.default('max'),
    windowTokens: z.int().min(1).default(8).describe('observation window: last prompt tokens, always kept'),
    beta: z.int().min(1).default(20).describe('the last layer votes for 1/beta of the mean; 1 = no pyramid'),
  })
  .refine(...windowInBudget);

export const policy = {
  name: 'pyramidkv',
  title: 'PyramidKV',
  family: 'eviction',
  source: 'arXiv 2406.02069; Zefan-Cai/KVCache-Factory',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: keptAtBudget(tokens, 8) }),
  create: ({ windowTokens, beta, ...c }, world) => {
    const elected = c.budgetTokens - windowTokens;
    const vote = { ...c, voters: windowTokens, sinkTokens: 0, recentTokens: windowTokens };
    return votePolicy(world, vote, (layer) => ({
      budgets(rows, view) {
        const own = pyramidShare(layer, world, elected, beta, view.length - windowTokens);
        return rows.map(() => own);
      },
    }));
  },
} satisfies PolicyPlugin<typeof config>;
