/** First in, first out: the block that was inserted first leaves; a hit changes nothing. The floor of every comparison. */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({});
const QUEUE = 1;

class FifoCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;

  constructor(capacityBlocks: number, universe: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 1);
  }

  get residentBlocks(): number {
    return this.#lists.lengths[QUEUE];
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(): void {}

  evict(): number {
    return this.#lists.popTail(QUEUE);
  }

  insert(id: number): void {
    this.#lists.pushHead(QUEUE, id);
  }
}

export const eviction = {
  kind: 'fifo',
  title: 'first in, first out',
  source: 'Belady, IBM Systems Journal 5(2), 1966, doi:10.1147/sj.52.0078',
  offline: false,
  entry: 'head-first',
  config,
  create: (capacityBlocks, universe): BlockCache => new FifoCache(capacityBlocks, universe),
} satisfies Eviction<typeof config>;
