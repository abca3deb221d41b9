/**
 * The clusters of one KV head that HBM caches beside their home in DRAM, least recently used first out. Clusters of the
 * step at hand are never pushed out by one another: what finds no room crosses the link and is not kept.
 */
import type { HeadCache } from '../memory/head-cache.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { type BlockCache, createBlockCache } from './eviction/eviction.ts';
import { eviction as lru } from './eviction/lru.ts';

export class ClusterCache {
  private readonly blocks: BlockCache;

  /** Room for `capacity` clusters of the `clusters` that there will be. */
  constructor(capacity: number, clusters: number) {
    this.blocks = createBlockCache(lru, { capacityBlocks: capacity, universe: clusters });
  }

  /** Brings clusters of the index, chosen in this step, into the cache; returns the tokens that were there before. */
  access(cache: HeadCache, index: ClusterIndex, chosen: Int32Array): number {
    const { blocks } = this;
    let [hits, hitTokens] = [0, 0];
    const missed: number[] = [];
    for (const cluster of chosen) {
      if (blocks.has(cluster)) {
        blocks.touch(cluster);
        hits++;
        hitTokens += index.tokensOf(cluster).length;
      } else missed.push(cluster);
    }
    for (const cluster of missed.slice(0, blocks.capacityBlocks - hits)) {
      if (blocks.residentBlocks === blocks.capacityBlocks) {
        for (const token of index.tokensOf(blocks.evict(cluster))) cache.move(token, token + 1, 'dram');
      }
      blocks.insert(cluster);
      for (const token of index.tokensOf(cluster)) cache.move(token, token + 1, 'hbm', true);
    }
    return hitTokens;
  }
}
