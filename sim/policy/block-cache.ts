/**
 * Blocks of tokens, of all KV heads of a layer together, that HBM caches beside their home in DRAM. A step's choice
 * says which blocks were asked for most; these enter before the next step, behind the attention of this one.
 * HugoZHL/PQCache vq_method/retrieval_based/cache_manager.py, lfu_cache.cc.
 */
import type { HeadCache } from '../memory/head-cache.ts';
import { type BlockCache, createBlockCache } from './eviction/eviction.ts';
import { eviction as lfu } from './eviction/lfu.ts';
import { Ranking } from './ranking.ts';

export class TokenBlockCache {
  private readonly blocks: BlockCache;
  private readonly blockTokens: number;
  private readonly from: number;
  /** Tokens asked for in the step at hand, by block. */
  private readonly asked: Float32Array;
  private readonly resident: Uint8Array;
  private readonly ranking: Ranking;

  /** Block b covers tokens from + b · blockTokens …; `capacity` in blocks. */
  constructor(maxTokens: number, from: number, blockTokens: number, capacity: number) {
    const universe = Math.max(1, Math.ceil((maxTokens - from) / blockTokens));
    this.blocks = createBlockCache(lfu, { capacityBlocks: capacity, universe });
    this.blockTokens = blockTokens;
    this.from = from;
    this.asked = new Float32Array(universe);
    this.resident = new Uint8Array(universe);
    this.ranking = new Ranking(universe);
  }

  ask(token: number): void {
    this.asked[Math.floor((token - this.from) / this.blockTokens)]++;
  }

  /** Admits at most `admitted` of the blocks asked for most since the last turn, as far as they end before `to`. */
  turn(caches: readonly HeadCache[], admitted: number, to: number): void {
    const { blocks, asked, resident, ranking } = this;
    if (blocks.capacityBlocks === 0) return;
    const whole = Math.max(0, Math.floor((to - this.from) / this.blockTokens));
    const count = ranking.best(asked, 0, whole, Math.min(admitted, whole));
    for (const block of ranking.positions.subarray(0, count)) {
      if (asked[block] === 0) continue;
      if (blocks.has(block)) {
        blocks.touch(block);
        continue;
      }
      if (blocks.residentBlocks === blocks.capacityBlocks) blocks.evict(block);
      blocks.insert(block);
    }
    asked.fill(0);
    for (let block = 0; block < whole; block++) {
      const now = Number(blocks.has(block));
      if (now === resident[block]) continue;
      resident[block] = now;
      const first = this.from + block * this.blockTokens;
      for (const cache of caches) {
        if (now === 1) cache.move(first, first + this.blockTokens, 'hbm', true);
        else cache.move(first, first + this.blockTokens, 'dram');
      }
    }
  }
}
