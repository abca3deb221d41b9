/**
 * Least frequently used, among resident blocks: the block with the fewest accesses since it entered leaves; of several,
 * the one whose last access lies furthest back. Counters saturate, so one list a count makes every step constant time.
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({
  maxAccesses: z
    .number()
    .int()
    .min(1)
    .max(255)
    .default(255)
    .describe('where the counter of a block saturates'),
});

class LfuCache implements BlockCache {
  readonly capacityBlocks: number;
  residentBlocks = 0;
  /** A block with n accesses is in list n. */
  readonly #lists: BlockLists;
  readonly #maxAccesses: number;
  /** No shorter count is in use. */
  #fewest = 1;

  constructor(capacityBlocks: number, universe: number, maxAccesses: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, maxAccesses);
    this.#maxAccesses = maxAccesses;
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(id: number): void {
    this.#lists.moveToHead(Math.min(this.#maxAccesses, this.#lists.where[id] + 1), id);
  }

  evict(): number {
    const { lengths } = this.#lists;
    while (lengths[this.#fewest] === 0) this.#fewest++;
    this.residentBlocks--;
    return this.#lists.popTail(this.#fewest);
  }

  insert(id: number): void {
    this.#lists.pushHead(1, id);
    this.#fewest = 1;
    this.residentBlocks++;
  }
}

export const eviction = {
  kind: 'lfu',
  title: 'least frequently used since it entered, oldest access first',
  source: 'Coffman & Denning, Operating Systems Theory, Prentice-Hall 1973, chapter 6',
  offline: false,
  entry: 'tail-first',
  config,
  create: (capacityBlocks, universe, { maxAccesses }): BlockCache =>
    new LfuCache(capacityBlocks, universe, maxAccesses),
} satisfies Eviction<typeof config>;
