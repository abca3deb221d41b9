/**
 * PyramidKV: SnapKV's vote with budgets that fall linearly from the first layer to the last, the same in total.
 * arXiv 2406.02069; Zefan-Cai/KVCache-Factory pyramidkv_utils.py (beta 20) and run_longbench.py (window 8, kernel 7,
 * max pooling). The official port replicates KV to query heads (`group: per-query`).
 */
import * as z from 'zod';
import { pyramidShare } from '../budgets.ts';
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
  create: ({ budgetTokens, windowTokens, beta, ...c }, world): Policy => {
    const group = possibleVote(c.group, world);
    const copies = copiesOf(group, world);
    return {
      ...policyDefaults,
      replicated: group === 'per-query',
      inputs: windowInputs(world),
      prefillWork: [windowWork(world, windowTokens, copies), compactWork(world, budgetTokens, copies)],
      layer: (layer) =>
        evictPrompt(world, {
          ...c,
          group,
          sinkTokens: 0,
          recentTokens: windowTokens,
          votes: (view, head) => windowVotes(view, head, windowTokens, world),
          budgets: (rows, view) => {
            const past = view.length - windowTokens;
            const own = pyramidShare(layer, world, budgetTokens - windowTokens, beta, past);
            return rows.map(() => own);
          },
        }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
