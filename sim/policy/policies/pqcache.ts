/**
 * PQCache: product-quantised keys rank the tokens in DRAM; the best cross the link and are attended with sinks and a
 * recent window. HBM caches the blocks of tokens that are asked for most. The authors' code sends each layer's whole
 * code book, 64-bit numbers over the reserved length, to the GPU in every step; here that is one of three ways.
 * arXiv 2407.12820; HugoZHL/PQCache vq_method/retrieval_based/pq_search.py, cache_manager.py, run_llama.sh, vq_pred.py.
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import { type Policy, type PolicyPlugin, policyDefaults, type World } from '../policy.ts';
import { PqLayer, type PqOptions } from '../pq-layer.ts';

const config = z.object({
  ratio: z
    .number()
    .positive()
    .default(0.1)
    .describe('tokens attended beside the sinks, as a share of the prompt (0.1 to 0.2 published)'),
  recentRatio: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe('share of these that is the recent window; the rest is retrieved'),
  sinkTokens: z.int().min(0).default(32).describe('first tokens, always in HBM'),
  subspaces: z
    .int()
    .min(1)
    .default(2)
    .describe('parts that a key is cut into; must divide the head dimension'),
  bits: z.int().min(1).max(8).default(6).describe('bits of a code: 2^bits centroids in each subspace'),
  iterations: z
    .int()
    .min(1)
    .default(20)
    .describe('rounds of k-means at most (the authors take as many as prefill hides, 3 to 300)'),
  codeBook: z
    .enum(['as-implemented', 'packed', 'resident'])
    .default('as-implemented')
    .describe(
      'each step sends 8-byte codes of the reserved length, or 1-byte codes in use, or they stay in HBM',
    ),
  reservedTokens: z
    .int()
    .min(1)
    .optional()
    .describe('length that code books are reserved for; default: the end of the run'),
  cacheTokens: z.int().min(0).default(4096).describe('tokens that HBM caches, the same for all KV heads'),
  blockTokens: z.int().min(1).default(128).describe('tokens of a cached block'),
  admitBlocks: z
    .int()
    .min(0)
    .optional()
    .describe('blocks that may enter the cache in a step; default: as many as it holds'),
  group: z.enum(['sum', 'max']).default('sum').describe('how softmax scores of a query group become one'),
  mode: z
    .enum(['cpu-gather', 'uva', 'dma-batch'])
    .default('cpu-gather')
    .describe('how retrieved tokens cross the link'),
});

const optionsOf = (c: z.infer<typeof config>, world: World): PqOptions => {
  const { headDim, promptTokens, maxTokens } = world;
  if (headDim % c.subspaces !== 0)
    throw new SimError(
      'invalid-input',
      `subspaces: expected a divisor of the head dimension ${headDim}, got ${c.subspaces}`,
    );
  const attended = Math.max(0, promptTokens - c.sinkTokens) * c.ratio;
  return {
    ...c,
    recentTokens: Math.floor(attended * c.recentRatio),
    topK: Math.floor(attended * (1 - c.recentRatio)),
    reservedTokens: c.reservedTokens ?? maxTokens,
    admitBlocks: c.admitBlocks ?? Math.floor(c.cacheTokens / c.blockTokens),
  };
};

export const policy = {
  name: 'pqcache',
  title: 'PQCache',
  family: 'selection',
  source: 'arXiv 2407.12820; HugoZHL/PQCache',
  requires: ['k', 'q'],
  config,
  atBudget: (tokens, { promptTokens }) => {
    const sinkTokens = Math.min(32, tokens >> 3);
    return { sinkTokens, ratio: (tokens - sinkTokens) / Math.max(1, promptTokens - sinkTokens) };
  },
  create: (given, world): Policy => {
    const c = optionsOf(given, world);
    const { headDim, kvHeads, kBytesPerToken, vBytesPerToken } = world;
    // Rows of one layer that attention finds side by side, and one layer's packed codes ahead of their use.
    const attended = (c.sinkTokens + c.recentTokens + c.topK + 1) * (kBytesPerToken + vBytesPerToken);
    const codes = c.codeBook === 'packed' ? 2 * c.subspaces * world.maxTokens : 0;
    return {
      ...policyDefaults,
      transfer: { mode: given.mode, rowTokens: 1, joinHeads: false, joinKv: false, overlap: 'step' },
      stagingBytes: (attended + codes) * kvHeads,
      prefillWork: [
        {
          index: 'k-means',
          readBytes: { dram: c.iterations * kBytesPerToken },
          flops: c.iterations * 3 * headDim * 2 ** c.bits,
          kernels: 1,
          where: 'cpu',
        },
      ],
      layer: () => new PqLayer(c, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
