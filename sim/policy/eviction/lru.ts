/**
 * Least recently used: the block whose last access lies furthest back leaves. The rule of vLLM's free list, SGLang's
 * radix cache and Mooncake Store (approximately); its misses follow from stack distances alone (Mattson et al. 1970,
 * doi:10.1147/sj.92.0078).
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({});
const RECENT = 1;

class LruCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;

  constructor(capacityBlocks: number, universe: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 1);
  }

  get residentBlocks(): number {
    return this.#lists.lengths[RECENT];
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(id: number): void {
    this.#lists.moveToHead(RECENT, id);
  }

  evict(): number {
    return this.#lists.popTail(RECENT);
  }

  insert(id: number): void {
    this.#lists.pushHead(RECENT, id);
  }
}

export const eviction = {
  kind: 'lru',
  title: 'least recently used',
  source: 'Mattson et al., IBM Systems Journal 9(2), 1970, doi:10.1147/sj.92.0078',
  offline: false,
  entry: 'tail-first',
  config,
  create: (capacityBlocks, universe): BlockCache => new LruCache(capacityBlocks, universe),
} satisfies Eviction<typeof config>;
