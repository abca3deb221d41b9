/**
 * CLOCK, also called second chance or FIFO with reinsertion: a queue in which a block that was hit since it last
 * passed the tail goes round again. `bits` > 1 counts hits up to 2^bits - 1 and spends one a round (generalised CLOCK).
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({
  bits: z.number().int().min(1).max(8).default(1).describe('bits of the hit counter'),
});
const QUEUE = 1;

class ClockCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;
  readonly #hits: Uint8Array;
  readonly #maxHits: number;

  constructor(capacityBlocks: number, universe: number, bits: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 1);
    this.#hits = new Uint8Array(universe);
    this.#maxHits = 2 ** bits - 1;
  }

  get residentBlocks(): number {
    return this.#lists.lengths[QUEUE];
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(id: number): void {
    if (this.#hits[id] < this.#maxHits) this.#hits[id]++;
  }

  evict(): number {
    const lists = this.#lists;
    const hits = this.#hits;
    let victim = lists.tail(QUEUE);
    while (hits[victim] > 0) {
      hits[victim]--;
      lists.moveToHead(QUEUE, victim);
      victim = lists.tail(QUEUE);
    }
    lists.remove(victim);
    return victim;
  }

  insert(id: number): void {
    this.#hits[id] = 0;
    this.#lists.pushHead(QUEUE, id);
  }
}

export const eviction = {
  kind: 'clock',
  title: 'FIFO with a second chance for blocks that were hit (CLOCK)',
  source: 'Corbató, A Paging Experiment with the Multics System, MIT Project MAC report MAC-M-384, 1968',
  offline: false,
  entry: 'head-first',
  config,
  create: (capacityBlocks, universe, { bits }): BlockCache => new ClockCache(capacityBlocks, universe, bits),
} satisfies Eviction<typeof config>;
