/**
 * H2O: attention that a token has received so far, summed over all queries, finds the heavy hitters; a head keeps
 * those and the most recent tokens. arXiv 2306.14048; FMInference/H2O h2o_hf (heavy and recent ratio 0.1 of the prompt;
 * streaming example 48 + 2000; eviction per query head). Here room is made before a token is written, so the budget
 * holds while attention runs; the repository attends to one token more and evicts afterwards.
 */
import * as z from 'zod';
import { columnsField, columnWork } from '../attention-columns.ts';
import { choosersOf, groupRows } from '../group-rows.ts';
import { type HeavyHitters, heavyHittersOf, SCORE_BYTES } from '../heavy-hitters.ts';
import { type HeadView, type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { evictionFields, possibleVote } from '../prompt-eviction.ts';
import { promptColumnInputs } from '../prompt-rows.ts';

const config = z.object({
  heavyRatio: z.number().min(0).max(1).default(0.1).describe('heavy hitters kept, as a share of the prompt'),
  recentRatio: z.number().min(0).max(1).default(0.1).describe('recent tokens kept, as a share of the prompt'),
  heavyTokens: z.int().min(0).nullable().default(null).describe('heavy hitters kept; null = by heavyRatio'),
  recentTokens: z.int().min(1).nullable().default(null).describe('recent tokens kept; null = by recentRatio'),
  group: evictionFields.group,
  normalised: z
    .boolean()
    .default(false)
    .describe('divide the sum by the number of queries that could see the key, as NVIDIA/kvpress does'),
  columns: columnsField,
  scoreBytes: z.number().min(0).default(SCORE_BYTES).describe('bytes of one accumulated score'),
});

export const policy = {
  name: 'h2o',
  title: 'H2O',
  family: 'eviction',
  source: 'arXiv 2306.14048; FMInference/H2O',
  requires: ['k', 'q'],
  prefers: ['prefillMass'],
  config,
  atBudget: (tokens) => ({ heavyTokens: tokens >> 1, recentTokens: tokens - (tokens >> 1) }),
  create: (c, world): Policy => {
    const group = possibleVote(c.group, world);
    const choosers = choosersOf(group, world);
    const heavy = c.heavyTokens ?? Math.floor(c.heavyRatio * world.promptTokens);
    const recent = c.recentTokens ?? Math.max(1, Math.floor(c.recentRatio * world.promptTokens));
    const quota = { sinks: 0, heavy, recent };
    const work = { columns: c.columns, copies: choosers, stateBytes: c.scoreBytes };
    return {
      ...policyDefaults,
      replicated: choosers > 1,
      learns: true,
      inputs: promptColumnInputs(world),
      // Causal: a key is seen by half of the prompt on average.
      prefillWork: [columnWork({ ...work, tokens: 1, queries: world.promptTokens / 2 }, world)],
      layer: () => {
        const heads: HeavyHitters[] = [];
        const evict = (head: HeavyHitters, view: HeadView): void => {
          head.evict(quota);
          view.cache.setMeta('scores', 'hbm', head.holders.rows * c.scoreBytes);
        };
        return {
          onPrefill(view) {
            view.heads.forEach((head, at) => {
              heads.push(heavyHittersOf(view, at, world, group, c.normalised));
              evict(heads[at], head);
            });
          },
          onAppend(view) {
            view.heads.forEach((head, at) => {
              heads[at].holders.add(view.length - 1, view.length);
              evict(heads[at], head);
            });
          },
          select(_, picks) {
            heads.forEach(({ holders }, at) => {
              const tokens = holders.rows / choosers;
              picks[at].score(columnWork({ ...work, tokens, queries: 1 }, world));
              holders.take(picks[at]);
            });
          },
          observe(view, probabilities) {
            heads.forEach((head, at) => {
              head.add(groupRows(probabilities[at], world.groupSize, view.length, group), view.length);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
