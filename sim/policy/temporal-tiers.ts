/**
 * Tiers by age in one layer: the oldest tokens leave the fast tier first-in first-out as coded blocks in DRAM; a summary of
 * each block's keys stays in HBM and ranks it by the queries. Used by policies/ttkv.ts.
 */

import type { KernelCall } from '../program/operation.ts';
import { softmaxInPlace } from '../quality/exact-attention.ts';
import { ChannelBounds } from './channel-bounds.ts';
import type { HeadView, LayerPolicy, LayerView, Pick, StepView, World } from './policy.ts';
import { QueryGuess } from './query-guess.ts';
import { Ranking, reduceRows } from './ranking.ts';

export interface TierRules {
  readonly blockTokens: number;
  /** Tokens in HBM, of which the first `prefixTokens` never leave it. */
  readonly fastTokens: number;
  readonly prefixTokens: number;
  /** Blocks streamed of so many in the slow tier. */
  chosenOf(slowBlocks: number): number;
  readonly summary: 'mean' | 'min-max';
  readonly selectPer: 'layer' | 'head';
  /** What queries are compared by: a block's share of a query's scores (softmax over blocks), or the scores themselves. */
  readonly compare: 'share' | 'score';
  /** True when blocks are chosen by the previous step's queries. */
  readonly byPrevious: boolean;
  /** Normal noise on the queries that choose, as a ratio to their length. */
  readonly noise: number;
  /** Scales of a block that stay in HBM, bytes; 0 where they lie with the block. */
  readonly scaleBytes: number;
}

/** Largest, difference, exponential, sum and quotient of one entry. */
const SOFTMAX_FLOPS = 5;

export class TemporalTiers implements LayerPolicy {
  private readonly rules: TierRules;
  private readonly world: World;
  private readonly bounds: ChannelBounds[] = [];
  private readonly queries: QueryGuess;
  /** Blocks in the slow tier: the slowBlocks * blockTokens tokens after the prefix. */
  private slowBlocks = 0;
  private readonly scores: Float32Array;
  /** Of one KV head: row-major [groupSize, blocks], and reduced over the group. */
  private readonly queryScores: Float32Array;
  private readonly headScores: Float32Array;
  private readonly ranking: Ranking;

  constructor(rules: TierRules, world: World) {
    const blocks = Math.ceil(world.maxTokens / rules.blockTokens);
    this.rules = rules;
    this.world = world;
    this.queries = new QueryGuess(
      { guess: rules.byPrevious ? 'previous-step' : 'this-step', guessNoise: rules.noise },
      0,
      world,
    );
    this.scores = new Float32Array(blocks);
    this.queryScores = new Float32Array(blocks * world.groupSize);
    this.headScores = new Float32Array(blocks);
    this.ranking = new Ranking(blocks);
  }

  onPrefill(view: LayerView): void {
    const { maxTokens, headDim } = this.world;
    for (let h = 0; h < view.heads.length; h++)
      this.bounds.push(new ChannelBounds(maxTokens, headDim, this.rules.blockTokens));
    this.demote(view);
  }

  onAppend(view: LayerView): void {
    this.demote(view);
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { rules, world, slowBlocks, scores, headScores } = this;
    if (slowBlocks === 0) return;
    const k = Math.min(slowBlocks, rules.chosenOf(slowBlocks));
    scores.fill(-Infinity);
    view.heads.forEach((_, h) => {
      this.scoreHead(view, h);
      if (rules.selectPer === 'head') this.take(picks[h], headScores, k, view.length);
      else
        for (let block = 0; block < slowBlocks; block++)
          if (headScores[block] > scores[block]) scores[block] = headScores[block];
    });
    if (rules.selectPer === 'layer') for (const pick of picks) this.take(pick, scores, k, view.length);
    const keys = rules.summary === 'mean' ? 1 : 2;
    const readBytes = { hbm: slowBlocks * world.kBytesPerToken * keys };
    const perScore = 2 * keys * world.headDim + (rules.compare === 'share' ? SOFTMAX_FLOPS : 0);
    const flops = perScore * slowBlocks * world.groupSize;
    const call: KernelCall =
      keys === 1
        ? { kernel: 'dot-score', counts: { count: slowBlocks } }
        : { kernel: 'bounds-score', counts: { pages: slowBlocks } };
    for (const pick of picks) {
      pick.score({ index: 'block-summaries', readBytes, flops, kernels: 1, call });
      pick.topk(slowBlocks, k, rules.selectPer === 'layer' ? 1 / world.kvHeads : 1);
    }
  }

  private demote(view: LayerView): void {
    const { blockTokens, fastTokens, prefixTokens, summary } = this.rules;
    const { headDim } = this.world;
    while (view.length - this.slowBlocks * blockTokens >= fastTokens + blockTokens) {
      const after = this.slowBlocks * blockTokens;
      const from = prefixTokens + after;
      view.heads.forEach(({ cache, keys }, h) => {
        cache.recode(from, from + blockTokens, 1);
        cache.move(from, from + blockTokens, 'dram');
        const demotable = keys.subarray(prefixTokens * headDim);
        if (summary === 'min-max') this.bounds[h].update(demotable, after, after + blockTokens);
        else this.bounds[h].average(demotable, this.slowBlocks);
      });
      this.slowBlocks++;
    }
    for (const head of view.heads) this.setMeta(head);
  }

  private setMeta({ cache }: HeadView): void {
    const { rules, world, slowBlocks } = this;
    const keys = rules.summary === 'mean' ? 1 : 2;
    cache.setMeta('summaries', 'hbm', slowBlocks * world.kBytesPerToken * keys);
    cache.setMeta('scales', 'hbm', slowBlocks * rules.scaleBytes);
  }

  /** Each block's largest score, or share, by a query of the group. */
  private scoreHead(view: StepView, h: number): void {
    const { slowBlocks, queryScores, headScores, world, rules } = this;
    const { groupSize, headDim } = world;
    this.bounds[h].scoreInto(this.queries.of(view, h), groupSize, slowBlocks, queryScores, slowBlocks);
    if (rules.compare === 'share') {
      const scale = 1 / Math.sqrt(headDim);
      for (let i = 0; i < groupSize * slowBlocks; i++) queryScores[i] *= scale;
      for (let g = 0; g < groupSize; g++) softmaxInPlace(queryScores.subarray(g * slowBlocks), slowBlocks);
    }
    reduceRows(queryScores, groupSize, slowBlocks, slowBlocks, 'max', headScores);
  }

  /** The k best blocks and the whole fast tier. */
  private take(pick: Pick, scores: Float32Array, k: number, length: number): void {
    const { ranking, slowBlocks } = this;
    const { blockTokens, prefixTokens } = this.rules;
    const count = ranking.best(scores, 0, slowBlocks, k);
    pick.none();
    pick.take(0, prefixTokens);
    for (let i = 0; i < count; i++) {
      const from = prefixTokens + ranking.positions[i] * blockTokens;
      pick.take(from, from + blockTokens);
    }
    pick.take(prefixTokens + slowBlocks * blockTokens, length);
  }
}
