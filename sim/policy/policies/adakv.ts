/**
 * Ada-KV: the KV heads of a layer share one budget. The layer's best-scored tokens decide how many each head keeps, a
 * guaranteed part aside; within its budget each head keeps its own best, by SnapKV's vote. Heads become ragged: a length
 * a head lies beside the KV. arXiv 2407.11550; FFY0/AdaKV snapkv_utils.py, experiments/LongBench/pred.py (window 32,
 * kernel 7, max pooling, alpha 0.5, 512 tokens). kvpress guards 0.2. The official port replicates KV unless told of GQA.
 */
import * as z from 'zod';
import { adaptiveBudgets, LENGTH_BYTES, pyramidShare } from '../budgets.ts';
import type { PolicyPlugin } from '../policy.ts';
import { evictionFields, keptAtBudget, windowInBudget } from '../prompt-eviction.ts';
import { votePolicy } from '../prompt-vote.ts';

const config = z
  .object({
    ...evictionFields,
    budgetTokens: evictionFields.budgetTokens
      .default(512)
      .describe('prompt tokens kept per KV head, mean over the layer, window included'),
    kernel: evictionFields.kernel.default(7),
    pooling: evictionFields.pooling.default('max'),
    windowTokens: z.int().min(1).default(32).describe('observation window: last prompt tokens, always kept'),
    alpha: z
      .number()
      .min(0)
      .max(1)
      .default(0.5)
      .describe('part of the budget that every head gets whatever its scores (safeguard); 1 = SnapKV'),
    normalize: z
      .boolean()
      .default(false)
      .describe('weigh a head by the share of its attention that its own budget holds'),
    skipLayers: z.int().min(0).default(0).describe('first layers whose heads get equal budgets'),
    pyramid: z
      .boolean()
      .default(false)
      .describe('budgets that fall from layer to layer, as PyramidKV has them'),
    beta: z.int().min(1).default(20).describe('with pyramid: the last layer votes for 1/beta of the mean'),
  })
  .refine(...windowInBudget);

export const policy = {
  name: 'adakv',
  title: 'Ada-KV',
  family: 'eviction',
  source: 'arXiv 2407.11550; FFY0/AdaKV',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: keptAtBudget(tokens, 32) }),
  create: ({ windowTokens, alpha, normalize, skipLayers, pyramid, beta, ...c }, world) => {
    const elected = c.budgetTokens - windowTokens;
    const vote = { ...c, voters: windowTokens, sinkTokens: 0, recentTokens: windowTokens };
    return votePolicy(world, vote, (layer) => ({
      budgets(rows, view) {
        const rowsPerHead = rows.length / view.heads.length;
        for (const head of view.heads) head.cache.setMeta('lengths', 'hbm', rowsPerHead * LENGTH_BYTES);
        const own = pyramid ? pyramidShare(layer, world, elected, beta, view.length - windowTokens) : elected;
        const safeguard = layer < skipLayers ? 1 : alpha;
        return adaptiveBudgets(rows, { budgetTokens: own, safeguard, normalize });
      },
    }));
  },
} satisfies PolicyPlugin<typeof config>;
