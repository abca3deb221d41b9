/**
 * RetroInfer: attention in three zones. Sinks, recent tokens and the clusters whose centroids the group scores highest
 * are attended exactly; the next best clusters are estimated, by centroid and mean value, counted once a token; the
 * rest is ignored. Clusters lie in DRAM, an LRU cache of them in HBM.
 * arXiv 2505.02922; microsoft/RetrievalAttention cache_hub/retroinfer_cache.py, kmeans.py, config/config.py.
 */
import * as z from 'zod';
import { clusteringWork } from '../cluster-index.ts';
import { type Policy, type PolicyPlugin, policyDefaults, type Work, type World } from '../policy.ts';
import { WaveLayer } from '../wave-layer.ts';
import { planZones, type WaveOptions, type ZonePlan } from '../wave-zones.ts';

const config = z
  .object({
    retrievalRatio: z
      .number()
      .min(0)
      .max(1)
      .default(0.018)
      .describe('share of the clusters that is attended exactly'),
    estimationRatio: z
      .number()
      .min(0)
      .max(1)
      .default(0.232)
      .describe('share of the clusters that is estimated'),
    sinkTokens: z.int().min(0).default(4).describe('first tokens, always attended'),
    localTokens: z.int().min(1).default(64).describe('recent tokens, always attended'),
    clusterTokens: z.int().min(1).default(16).describe('tokens a cluster on average'),
    segmentTokens: z.int().min(1).default(8192).describe('tokens of a stretch that is clustered for itself'),
    updateTokens: z.int().min(1).default(1024).describe('generated tokens that are clustered together'),
    iterations: z.int().min(2).default(10).describe('rounds of k-means, the last over all segments'),
    pageTokens: z.int().min(1).default(8).describe('tokens of a cluster that lie side by side in DRAM'),
    cacheRatio: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('share of the clusters that HBM caches; 0 = three times those retrieved'),
    tier: z.enum(['hbm', 'dram']).default('dram').describe('where clusters live'),
    mode: z
      .enum(['uva', 'dma-batch', 'cpu-gather'])
      .default('uva')
      .describe('how pages that are not cached cross the link'),
  })
  .refine(({ retrievalRatio, estimationRatio }) => retrievalRatio + estimationRatio <= 1, {
    path: ['estimationRatio'],
    message: 'expected at most 1 - retrievalRatio',
  });

/** Clustering of the prompt; then the CPU sorts rows into pages of clusters, while the GPU goes on. */
const promptWorks = (c: WaveOptions, world: World, plan: ZonePlan): readonly Work[] => {
  const { clusters } = plan.at(0);
  if (clusters === 0) return [];
  const rowBytes = { dram: world.kBytesPerToken + world.vBytesPerToken };
  const pages = { index: 'pages', readBytes: rowBytes, writeBytes: rowBytes, flops: 0, kernels: 1 };
  return [
    clusteringWork(world, c.iterations - 1, 1, clusters / plan.segments),
    clusteringWork(world, 1, 1, clusters),
    ...(c.tier === 'dram' ? [{ ...pages, where: 'cpu' } as const] : []),
  ];
};

export const policy = {
  name: 'retroinfer',
  title: 'RetroInfer',
  family: 'selection',
  source: 'arXiv 2505.02922; microsoft/RetrievalAttention',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  atBudget: (tokens, { promptTokens }) => {
    // A quarter is recent, a quarter estimated (one row a cluster), the rest retrieved; clusters are small beside it.
    const sinkTokens = 4;
    const localTokens = Math.floor(tokens / 4) - sinkTokens + 1;
    const clusterTokens = Math.max(1, Math.min(16, tokens >> 4));
    const retrievalRatio = Math.min(1, tokens / 3 / promptTokens);
    const estimationRatio = Math.min(1 - retrievalRatio, ((tokens / 5) * clusterTokens) / promptTokens);
    const updateTokens = Math.min(1024, tokens);
    return { retrievalRatio, estimationRatio, sinkTokens, localTokens, clusterTokens, updateTokens };
  },
  create: (c, world): Policy => {
    const plan = planZones(c, world);
    const tokenBytes = world.kBytesPerToken + world.vBytesPerToken;
    // The buffer in which a layer's attention finds its rows side by side: room for four times the choice.
    const buffered =
      c.sinkTokens + c.localTokens + c.updateTokens + 4 * plan.last.retrieved * c.clusterTokens;
    return {
      ...policyDefaults,
      transfer: {
        mode: c.mode,
        rowTokens: c.pageTokens,
        ragged: true,
        joinHeads: false,
        joinKv: false,
        overlap: 'step',
      },
      stagingBytes: c.tier === 'dram' ? buffered * world.kvHeads * tokenBytes : 0,
      prefillWork: promptWorks(c, world, plan),
      layer: () => new WaveLayer(c, world, plan),
    };
  },
} satisfies PolicyPlugin<typeof config>;
