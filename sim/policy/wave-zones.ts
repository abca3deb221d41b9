/**
 * How many clusters RetroInfer makes, attends to exactly, estimates and caches as the context grows, and what a step
 * costs beside its attention. microsoft/RetrievalAttention config/config.py, cache_hub/retroinfer_cache.py.
 */
import type { KernelCall } from '../program/operation.ts';
import type { Work, World } from './policy.ts';

export interface WaveOptions {
  readonly retrievalRatio: number;
  readonly estimationRatio: number;
  readonly sinkTokens: number;
  readonly localTokens: number;
  readonly clusterTokens: number;
  readonly segmentTokens: number;
  readonly updateTokens: number;
  readonly iterations: number;
  readonly pageTokens: number;
  readonly cacheRatio: number;
  readonly tier: 'hbm' | 'dram';
}

/** Clusters that exist, and of those how many are attended exactly and estimated. */
export interface Zones {
  readonly clusters: number;
  readonly retrieved: number;
  readonly estimated: number;
}

export interface ZonePlan {
  readonly segments: number;
  /** Clusters of one update with generated tokens. */
  readonly updateClusters: number;
  readonly cachedClusters: number;
  /** After so many updates. */
  at(updates: number): Zones;
  /** After the last update of the run. */
  readonly last: Zones;
}

/** The kernels take clusters by eights, and segments are of equal size. */
const CLUSTER_STEP = 8;

const leastCommonMultiple = (a: number, b: number): number => {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
};

export const planZones = (c: WaveOptions, world: World): ZonePlan => {
  const { promptTokens, maxTokens } = world;
  const steady = c.sinkTokens + c.localTokens;
  // A prompt without room for one update is attended in full until it has grown by one.
  const isIndexed = promptTokens >= steady + c.updateTokens;
  const segments = isIndexed ? Math.max(1, Math.round(promptTokens / c.segmentTokens)) : 1;
  const step = leastCommonMultiple(CLUSTER_STEP, segments);
  const clusters = isIndexed ? Math.max(1, Math.round(promptTokens / c.clusterTokens / step)) * step : 0;
  const retrieved = Math.min(clusters, Math.max(1, Math.round(clusters * c.retrievalRatio)));
  const estimated = Math.min(clusters - retrieved, Math.round(clusters * c.estimationRatio));
  const wanted = Math.round(c.updateTokens / c.clusterTokens);
  const updateClusters = Math.max(CLUSTER_STEP, wanted - (wanted % CLUSTER_STEP));
  const moreRetrieved = Math.max(1, Math.round(updateClusters * c.retrievalRatio));
  const moreEstimated = Math.min(
    updateClusters - moreRetrieved,
    Math.max(1, Math.round(updateClusters * c.estimationRatio)),
  );
  const at = (updates: number): Zones => ({
    clusters: clusters + updates * updateClusters,
    retrieved: retrieved + updates * moreRetrieved,
    estimated: estimated + updates * moreEstimated,
  });
  const grown = maxTokens - (isIndexed ? promptTokens : steady);
  const last = at(Math.max(0, Math.floor(grown / c.updateTokens)));
  const cachedClusters =
    c.cacheRatio > 0 ? Math.round(last.clusters * c.cacheRatio) : Math.min(last.clusters, 3 * last.retrieved);
  return { segments, updateClusters, cachedClusters, at, last };
};

/** Tokens by where a step's attention finds them, and pages of the chosen clusters. */
export interface Found {
  readonly steady: number;
  readonly hits: number;
  readonly misses: number;
  readonly pages: number;
}

/** Bytes of a page's entry in the tables that the CPU hands to the GPU: its place, its size and their running sum. */
const PAGE_ENTRY_BYTES = 12;
/** Bytes of a cluster's id, and of its descriptor on the CPU. */
const ID_BYTES = 8;
const DESCRIPTOR_BYTES = 64;

/**
 * Centroids and values of the estimated clusters are gathered, with a size of 2 bytes each. The ids have left by then, and
 * the CPU looks the chosen clusters up meanwhile (retroinfer_cache.py, compute).
 */
export const estimationWork = (world: World, { estimated }: Zones): Work => {
  const bytes = estimated * (world.kBytesPerToken + world.vBytesPerToken + 2);
  const call: KernelCall = {
    kernel: 'gather',
    counts: { rows: estimated },
    shape: { rowBytes: world.kBytesPerToken + world.vBytesPerToken },
  };
  const moved = { readBytes: { hbm: bytes }, writeBytes: { hbm: bytes } };
  return { index: 'estimation', ...moved, flops: 0, kernels: 2, beside: true, call };
};

/**
 * The CPU looks up the chosen clusters (ids out, page tables in), and the GPU lays everything that is attended exactly
 * side by side, then copies what missed into the cache.
 */
export const retrievalWorks = (
  world: World,
  { clusters, retrieved }: Zones,
  { steady, hits, misses, pages }: Found,
): readonly Work[] => {
  const tokenBytes = world.kBytesPerToken + world.vBytesPerToken;
  const tableBytes = pages * PAGE_ENTRY_BYTES;
  return [
    { index: 'cluster-ids', readBytes: { hbm: retrieved * ID_BYTES }, flops: 0, kernels: 1, where: 'd2h' },
    {
      index: 'cluster-table',
      readBytes: { dram: retrieved * DESCRIPTOR_BYTES },
      writeBytes: { dram: tableBytes },
      flops: 0,
      kernels: 1,
      where: 'cpu',
      call: {
        kernel: 'cluster-table',
        counts: { clusters, retrieved, pages, cachedPages: (pages * hits) / Math.max(1, hits + misses) },
      },
    },
    { index: 'page-table', readBytes: { dram: tableBytes }, flops: 0, kernels: 1, where: 'h2d' },
    {
      index: 'execution-buffer',
      readBytes: { hbm: (steady + hits + misses) * tokenBytes },
      writeBytes: { hbm: (steady + hits + 2 * misses) * tokenBytes },
      flops: 0,
      kernels: 2,
      laysOut: true,
      call: {
        kernel: 'execution-buffer',
        counts: { rows: steady + hits + misses, misses },
        shape: { rowBytes: tokenBytes },
      },
    },
  ];
};
