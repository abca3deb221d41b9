/**
 * TTKV: tiers by age. Recent KV stays in HBM at full precision; older KV lies in DRAM as K8V4 blocks, of which the
 * query's best are streamed in and attended block by block, merged by log-sum-exp. arXiv 2604.19769.
 * The paper's fast-tier size, block budget and selector are not public: they are parameters here. Scales stay in
 * HBM beside the block summaries, so a block crosses the link as its bare codes (128·d·1.5 bytes per KV head).
 */
import * as z from 'zod';
import { topKPositions } from '../../quality/top-k.ts';
import { ChannelBounds } from '../channel-bounds.ts';
import { codec as k8v4 } from '../codecs/k8v4.ts';
import {
  type HeadView,
  type LayerView,
  type Pick,
  type Policy,
  type PolicyPlugin,
  policyDefaults,
  type StepView,
  type World,
} from '../policy.ts';

const config = z.object({
  blockTokens: z.int().min(1).default(128).describe('tokens of one slow-tier block'),
  fastTokens: z
    .int()
    .min(1)
    .optional()
    .describe('tokens kept in HBM; default 8192, or a quarter of a shorter context'),
  slowBlocks: z.int().min(0).default(16).describe('slow blocks streamed per step and layer'),
  slowShare: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe('share of the slow blocks to stream instead of a count'),
  summary: z
    .enum(['mean', 'min-max'])
    .default('min-max')
    .describe('what ranks a block: its mean key (loses attention sinks), or channel bounds'),
  selectPer: z
    .enum(['layer', 'head'])
    .default('layer')
    .describe('one choice of blocks a layer, or one a KV head'),
  stages: z.int().min(1).default(4).describe('pieces that the chosen blocks are streamed in'),
  buffers: z.int().min(1).default(2).describe('staging buffers of one stage each; 2 = double buffering'),
  predict: z
    .enum(['none', 'previous-step'])
    .default('none')
    .describe("choose by this step's query, or ahead of time by the previous step's"),
  mode: z.enum(['dma', 'dma-batch']).default('dma').describe('how chosen blocks cross the link'),
  scales: z.enum(['hbm', 'with-block']).default('hbm').describe('where quantisation scales live'),
});
type Config = z.infer<typeof config>;

const FAST_TOKENS = 8192;

/** A block's mean key in the place of both bounds: its bound of q·k is then q · mean. */
const summariseByMean = (
  bounds: ChannelBounds,
  keys: Float32Array,
  block: number,
  d: number,
  tokens: number,
): void => {
  const sums = new Float64Array(d);
  for (let at = block * tokens * d; at < (block + 1) * tokens * d; at += d) {
    for (let c = 0; c < d; c++) sums[c] += keys[at + c];
  }
  const row = block * 2 * d;
  for (let c = 0; c < d; c++) {
    bounds.table[row + c] = sums[c] / tokens;
    bounds.table[row + d + c] = sums[c] / tokens;
  }
};

class TtkvLayer {
  private readonly c: Config;
  private readonly world: World;
  private readonly fastTokens: number;
  private readonly bounds: ChannelBounds[] = [];
  /** Each head's queries of the step before, for a choice made ahead of time. */
  private readonly previous: Float32Array[] = [];
  /** Blocks in the slow tier: tokens 0 .. slowBlocks * blockTokens - 1. */
  private slowBlocks = 0;
  private readonly scores: Float32Array;
  /** Row-major [groupSize, blocks]. */
  private readonly queryScores: Float32Array;
  private readonly chosen: Int32Array;

  constructor(c: Config, world: World, fastTokens: number) {
    this.c = c;
    this.world = world;
    this.fastTokens = fastTokens;
    const blocks = Math.ceil(world.maxTokens / c.blockTokens);
    this.scores = new Float32Array(blocks);
    this.queryScores = new Float32Array(blocks * world.groupSize);
    this.chosen = new Int32Array(blocks);
  }

  onPrefill(view: LayerView): void {
    const { maxTokens, headDim } = this.world;
    for (let h = 0; h < view.heads.length; h++)
      this.bounds.push(new ChannelBounds(maxTokens, headDim, this.c.blockTokens));
    this.demote(view);
  }

  onAppend(view: LayerView): void {
    this.demote(view);
  }

  /** The oldest tokens leave the fast tier first-in first-out, one whole block at a time. */
  private demote(view: LayerView): void {
    const { blockTokens } = this.c;
    while (view.length - this.slowBlocks * blockTokens >= this.fastTokens + blockTokens) {
      const from = this.slowBlocks * blockTokens;
      view.heads.forEach((head, h) => {
        head.cache.recode(from, from + blockTokens, 1);
        head.cache.move(from, from + blockTokens, 'dram');
        if (this.c.summary === 'min-max') this.bounds[h].update(head.keys, from, from + blockTokens);
        else summariseByMean(this.bounds[h], head.keys, this.slowBlocks, this.world.headDim, blockTokens);
      });
      this.slowBlocks++;
    }
    for (const head of view.heads) this.setMeta(head);
  }

  private setMeta(head: HeadView): void {
    const { c, world, slowBlocks } = this;
    head.cache.setMeta(
      'summaries',
      'hbm',
      slowBlocks * world.kBytesPerToken * (c.summary === 'mean' ? 1 : 2),
    );
    const scaleBytes = slowBlocks * k8v4.scaleBytes(world.headDim, c.blockTokens);
    head.cache.setMeta('scales', c.scales === 'hbm' ? 'hbm' : 'dram', scaleBytes);
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c, world, slowBlocks } = this;
    if (slowBlocks === 0) return;
    const k = Math.min(
      slowBlocks,
      c.slowShare === undefined ? c.slowBlocks : Math.round(c.slowShare * slowBlocks),
    );
    if (c.selectPer === 'layer') {
      this.scores.fill(-Infinity);
      for (let h = 0; h < view.heads.length; h++) this.scoreInto(view, h);
      const count = this.best(k);
      for (const pick of picks) this.take(pick, count, view.length);
    } else {
      view.heads.forEach((_, h) => {
        this.scores.fill(-Infinity);
        this.scoreInto(view, h);
        this.take(picks[h], this.best(k), view.length);
      });
    }
    const summaries = c.summary === 'mean' ? 1 : 2;
    const readBytes = { hbm: slowBlocks * world.kBytesPerToken * summaries };
    const flops = 2 * summaries * world.headDim * slowBlocks * world.groupSize;
    for (const pick of picks) {
      pick.score({ index: 'block-summaries', readBytes, flops, kernels: 1 });
      pick.topk(slowBlocks, k, c.selectPer === 'layer' ? 1 / world.kvHeads : 1);
    }
  }

  /** Raises each block's score to the largest bound that a query of the group gives it. */
  private scoreInto(view: StepView, h: number): void {
    const { slowBlocks, scores, queryScores } = this;
    const { groupSize } = this.world;
    const now = view.queries(h);
    const q = this.c.predict === 'previous-step' ? (this.previous[h] ?? now) : now;
    this.previous[h] = now.slice();
    this.bounds[h].scoreInto(q, groupSize, slowBlocks, queryScores, slowBlocks);
    for (let g = 0, at = 0; g < groupSize; g++) {
      for (let block = 0; block < slowBlocks; block++, at++)
        if (queryScores[at] > scores[block]) scores[block] = queryScores[at];
    }
  }

  private best(k: number): number {
    const { scores, slowBlocks } = this;
    let least = Infinity;
    for (let block = 0; block < slowBlocks; block++) if (scores[block] < least) least = scores[block];
    for (let block = 0; block < slowBlocks; block++) scores[block] -= least;
    return topKPositions(scores, slowBlocks, k, this.chosen);
  }

  private take(pick: Pick, count: number, length: number): void {
    const { blockTokens } = this.c;
    pick.none();
    for (let i = 0; i < count; i++)
      pick.take(this.chosen[i] * blockTokens, (this.chosen[i] + 1) * blockTokens);
    pick.take(this.slowBlocks * blockTokens, length);
  }
}

export const policy = {
  name: 'ttkv',
  title: 'TTKV (temporal tiers)',
  family: 'tiering',
  source: 'arXiv 2604.19769',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  atBudget: (tokens) => {
    // Half for slow blocks, small enough that there are eight or more; the fast tier may be a block short of full.
    const blockTokens = Math.min(128, Math.max(2, Math.floor(tokens / 16)));
    const slowBlocks = Math.floor(tokens / 2 / blockTokens);
    return { blockTokens, slowBlocks, fastTokens: tokens + 1 - (slowBlocks + 1) * blockTokens };
  },
  create: (c, world): Policy => {
    const fastTokens = c.fastTokens ?? Math.min(FAST_TOKENS, Math.ceil(world.promptTokens / 4));
    const scaleBytes = c.scales === 'hbm' ? 0 : k8v4.scaleBytes(world.headDim, c.blockTokens) / c.blockTokens;
    const codec = { ...k8v4, kBytesPerToken: (d: number) => k8v4.kBytesPerToken(d) + scaleBytes };
    const blockBytes =
      c.blockTokens *
      world.kvHeads *
      (codec.kBytesPerToken(world.headDim) + k8v4.vBytesPerToken(world.headDim));
    const slowTokens = Math.max(0, world.maxTokens - fastTokens);
    const k =
      c.slowShare === undefined ? c.slowBlocks : Math.ceil((c.slowShare * slowTokens) / c.blockTokens);
    return {
      ...policyDefaults,
      codecs: [codec],
      transfer: {
        mode: c.mode,
        rowTokens: c.blockTokens,
        joinHeads: c.selectPer === 'layer',
        joinKv: true,
        overlap: 'stream',
        chunks: c.stages,
        buffers: c.buffers,
        speculative: c.predict === 'previous-step',
      },
      // Staging buffers of one stage each, shared by all layers.
      stagingBytes: c.buffers * Math.ceil(k / c.stages) * blockBytes,
      layer: () => new TtkvLayer(c, world, fastTokens),
    };
  },
} satisfies PolicyPlugin<typeof config>;
