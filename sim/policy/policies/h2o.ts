/**
 * H2O: attention that a token has received so far, summed over all queries, finds the heavy hitters; a head keeps
 * those and the most recent tokens. arXiv 2306.14048; FMInference/H2O h2o_hf (heavy and recent ratio 0.1 of the prompt;
 * streaming example 48 + 2000; eviction per query head). Here room is made before a token is written, so the budget
 * holds while attention runs; the repository attends to one token more and evicts afterwards.
 */
import * as z from 'zod';
import { columnsField, columnWork } from '../attention-columns.ts';
import { choosersOf, groupChoiceOf, groupField, groupRows } from '../group-rows.ts';
import { Holders } from '../holders.ts';
import {
  type HeadView,
  type Policy,
  type PolicyPlugin,
  type PrefillView,
  policyDefaults,
  type World,
} from '../policy.ts';
import { promptColumnInputs, promptColumns } from '../prompt-rows.ts';

const config = z.object({
  heavyRatio: z.number().min(0).max(1).default(0.1).describe('heavy hitters kept, as a share of the prompt'),
  recentRatio: z.number().min(0).max(1).default(0.1).describe('recent tokens kept, as a share of the prompt'),
  heavyTokens: z.int().min(0).nullable().default(null).describe('heavy hitters kept; null = by heavyRatio'),
  recentTokens: z.int().min(1).nullable().default(null).describe('recent tokens kept; null = by recentRatio'),
  group: groupField,
  normalised: z
    .boolean()
    .default(false)
    .describe('divide the sum by the number of queries that could see the key, as NVIDIA/kvpress does'),
  columns: columnsField,
});

/** Bytes of one accumulated score, float32. */
const SCORE_BYTES = 4;

/** Sums of one KV head, a row per chooser, and the tokens that each chooser still holds. */
class HeavyHitters {
  readonly holders: Holders;
  private readonly sums: readonly Float32Array[];
  /** Queries that were summed over each token. */
  private readonly seen: Float32Array;
  private readonly rates: Float32Array;

  constructor(head: HeadView, choosers: number, capacityTokens: number) {
    this.holders = new Holders(head.cache, choosers);
    this.sums = Array.from({ length: choosers }, () => new Float32Array(capacityTokens));
    this.seen = new Float32Array(capacityTokens);
    this.rates = new Float32Array(capacityTokens);
  }

  /** The prompt's sums, row-major [choosers, seen.length]. */
  begin(rows: Float32Array, seen: Float32Array): void {
    const n = seen.length;
    this.seen.set(seen);
    this.sums.forEach((sum, chooser) => {
      sum.set(rows.subarray(chooser * n, (chooser + 1) * n));
    });
  }

  /** One more query: its attention on tokens 0 .. length-1, row-major [choosers, length]. */
  add(rows: Float32Array, length: number): void {
    const { positions, counts } = this.holders;
    this.sums.forEach((sum, chooser) => {
      for (let at = 0; at < counts[chooser]; at++) {
        const token = positions[chooser][at];
        sum[token] += rows[chooser * length + token];
      }
    });
    for (let token = 0; token < length; token++) this.seen[token]++;
  }

  /** Evicts until each chooser holds its last `recent` tokens and at most `heavy` others. */
  evict(heavy: number, recent: number, normalised: boolean): void {
    const { holders, sums, seen, rates } = this;
    sums.forEach((sum, chooser) => {
      const others = holders.counts[chooser] - recent;
      if (others <= heavy) return;
      if (normalised) {
        for (let at = 0; at < others; at++) {
          const token = holders.positions[chooser][at];
          rates[token] = sum[token] / Math.max(1, seen[token]);
        }
      }
      holders.dropLeast(chooser, normalised ? rates : sum, others, others - heavy);
    });
  }
}

const startHead = (
  view: PrefillView,
  at: number,
  choosers: number,
  world: World,
  group: 'mean' | 'max' | 'per-query',
) => {
  const head = new HeavyHitters(view.heads[at], choosers, world.maxTokens);
  const { sums, seen } = promptColumns(view, at, world);
  head.begin(groupRows(sums, world.groupSize, view.length, group), seen);
  head.holders.add(0, view.length);
  return head;
};

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
    const group = groupChoiceOf(c.group, world);
    const choosers = choosersOf(group, world);
    const heavy = c.heavyTokens ?? Math.floor(c.heavyRatio * world.promptTokens);
    const recent = c.recentTokens ?? Math.max(1, Math.floor(c.recentRatio * world.promptTokens));
    const work = { columns: c.columns, copies: choosers, stateBytes: SCORE_BYTES };
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
          head.evict(heavy, recent, c.normalised);
          view.cache.setMeta('scores', 'hbm', head.holders.rows * SCORE_BYTES);
        };
        return {
          onPrefill(view) {
            view.heads.forEach((head, at) => {
              heads.push(startHead(view, at, choosers, world, group));
              evict(heads[at], head);
            });
          },
          onAppend(view) {
            view.heads.forEach((head, at) => {
              heads[at].holders.add(view.length - 1, view.length);
              evict(heads[at], head);
            });
          },
          select(view, picks) {
            heads.forEach(({ holders }, at) => {
              const tokens = holders.rows / choosers;
              picks[at].score(columnWork({ ...work, tokens, queries: 1 }, world));
              if (view.length > heavy + recent) picks[at].topk(tokens - recent + 1, heavy, choosers);
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
