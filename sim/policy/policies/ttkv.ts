/**
 * TTKV: tiers by age. Recent KV stays in HBM at full precision; older KV lies in DRAM as K8V4 blocks, of which the
 * query's best are streamed in and attended block by block, merged by log-sum-exp. arXiv 2604.19769.
 * The paper's fast-tier size, block budget and selector are not public: they are parameters here. Scales stay in
 * HBM beside the block summaries, so a block crosses the link as its bare codes (128·d·1.5 bytes per KV head).
 */
import * as z from 'zod';
import { topKPositions } from '../../quality/top-k.ts';
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

/** Summaries and bounds of the slow blocks of one KV head. */
interface HeadState {
  readonly lo: Float32Array;
  readonly hi: Float32Array;
}

const summarise = (state: HeadState, head: HeadView, block: number, d: number, c: Config): void => {
  const at = block * d;
  for (let channel = 0; channel < d; channel++) {
    let lo = Infinity;
    let hi = -Infinity;
    let sum = 0;
    for (let t = 0; t < c.blockTokens; t++) {
      const k = head.keys[(block * c.blockTokens + t) * d + channel];
      sum += k;
      if (k < lo) lo = k;
      if (k > hi) hi = k;
    }
    state.lo[at + channel] = c.summary === 'mean' ? sum / c.blockTokens : lo;
    state.hi[at + channel] = c.summary === 'mean' ? sum / c.blockTokens : hi;
  }
};

/** Largest score of a block over the query group. */
const scoreBlock = (
  q: Float32Array,
  state: HeadState,
  block: number,
  d: number,
  groupSize: number,
): number => {
  let best = -Infinity;
  for (let g = 0; g < groupSize; g++) {
    let score = 0;
    for (let c = 0; c < d; c++) {
      const x = q[g * d + c];
      score += x > 0 ? x * state.hi[block * d + c] : x * state.lo[block * d + c];
    }
    if (score > best) best = score;
  }
  return best;
};

class TtkvLayer {
  private readonly c: Config;
  private readonly world: World;
  private readonly fastTokens: number;
  private readonly states: HeadState[] = [];
  /** Each head's queries of the step before, for a choice made ahead of time. */
  private readonly previous: Float32Array[] = [];
  /** Blocks in the slow tier: tokens 0 .. slowBlocks * blockTokens - 1. */
  private slowBlocks = 0;
  private readonly scores: Float32Array;
  private readonly chosen: Int32Array;

  constructor(c: Config, world: World, fastTokens: number) {
    this.c = c;
    this.world = world;
    this.fastTokens = fastTokens;
    const blocks = Math.ceil(world.maxTokens / c.blockTokens);
    this.scores = new Float32Array(blocks);
    this.chosen = new Int32Array(blocks);
  }

  onPrefill(view: LayerView): void {
    const blocks = Math.ceil(this.world.maxTokens / this.c.blockTokens);
    for (let h = 0; h < view.heads.length; h++) {
      const size = blocks * this.world.headDim;
      this.states.push({ lo: new Float32Array(size), hi: new Float32Array(size) });
    }
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
        summarise(this.states[h], head, this.slowBlocks, this.world.headDim, this.c);
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

  private scoreInto(view: StepView, h: number): void {
    const now = view.queries(h);
    const q = this.c.predict === 'previous-step' ? (this.previous[h] ?? now) : now;
    this.previous[h] = now.slice();
    for (let block = 0; block < this.slowBlocks; block++) {
      const score = scoreBlock(q, this.states[h], block, this.world.headDim, this.world.groupSize);
      if (score > this.scores[block]) this.scores[block] = score;
    }
  }

  private best(k: number): number {
    let least = Infinity;
    for (let block = 0; block < this.slowBlocks; block++) least = Math.min(least, this.scores[block]);
    for (let block = 0; block < this.slowBlocks; block++) this.scores[block] -= least;
    return topKPositions(this.scores, this.slowBlocks, k, this.chosen);
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
