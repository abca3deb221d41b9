/**
 * TTKV: tiers by age. Recent KV stays in HBM at full precision; older KV lies in DRAM as K8V4 blocks, of which the
 * query's best are streamed in and attended block by block, merged by log-sum-exp. arXiv 2604.19769.
 * The paper's fast-tier size, block budget, selector and copy calls are not public: they are parameters here. Scales
 * stay in HBM beside the block summaries, so a block crosses the link as its bare codes (128·d·1.5 bytes per KV head).
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import { withScales } from '../codec.ts';
import { codec as k8v4 } from '../codecs/k8v4.ts';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { TemporalTiers } from '../temporal-tiers.ts';

const config = z.object({
  blockTokens: z.int().min(1).default(128).describe('tokens of one slow-tier block'),
  fastTokens: z
    .int()
    .min(1)
    .optional()
    .describe('tokens kept in HBM; default 8192, or a quarter of a shorter context'),
  prefixTokens: z
    .int()
    .min(0)
    .default(0)
    .describe('of the tokens in HBM, first ones that are never demoted (attention sinks)'),
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
  compare: z
    .enum(['share', 'score'])
    .default('share')
    .describe(
      'what the best query of any head is found by: the share of its scores that a block has (softmax over blocks), or the score itself, by which heads with long keys outvote the others',
    ),
  stages: z.int().min(1).default(4).describe('pieces that the chosen blocks are streamed in'),
  buffers: z.int().min(1).default(2).describe('staging buffers of one stage each; 2 = double buffering'),
  predict: z
    .enum(['none', 'previous-step'])
    .default('none')
    .describe("choose by this step's query, or ahead of time by the previous step's"),
  guessNoise: z
    .number()
    .min(0)
    .default(0)
    .describe('normal noise on the queries that choose, as a ratio to their length'),
  mode: z
    .enum(['dma', 'dma-batch', 'uva'])
    .default('dma-batch')
    .describe(
      'how chosen blocks cross the link: a copy call a block, one call for all of a stage, or a kernel; not published',
    ),
  scales: z.enum(['hbm', 'with-block']).default('hbm').describe('where quantisation scales live'),
});

const FAST_TOKENS = 8192;

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
    if (c.prefixTokens > fastTokens)
      throw new SimError(
        'invalid-input',
        `policy ttkv, parameter prefixTokens: expected at most fastTokens (${fastTokens}), got ${c.prefixTokens}`,
      );
    const inHbm = c.scales === 'hbm';
    const codec = inHbm ? k8v4 : withScales(k8v4, c.blockTokens);
    const blockBytes =
      c.blockTokens *
      world.kvHeads *
      (codec.kBytesPerToken(world.headDim) + codec.vBytesPerToken(world.headDim));
    const slowTokens = Math.max(0, world.maxTokens - fastTokens);
    const chosenOf = (blocks: number): number =>
      c.slowShare === undefined ? c.slowBlocks : Math.round(c.slowShare * blocks);
    const k =
      c.slowShare === undefined ? c.slowBlocks : Math.ceil((c.slowShare * slowTokens) / c.blockTokens);
    const rules = {
      ...c,
      fastTokens,
      chosenOf,
      byPrevious: c.predict === 'previous-step',
      noise: c.guessNoise,
      scaleBytes: inHbm ? k8v4.scaleBytes(world.headDim, c.blockTokens) : 0,
    };
    return {
      ...policyDefaults,
      codecs: [codec],
      inputs: c.guessNoise > 0 ? `blocks chosen by queries with noise ${c.guessNoise}` : 'exact',
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
      layer: () => new TemporalTiers(rules, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
