/**
 * Segmented LRU: new blocks enter a probation list, a hit there moves a block to the protected list, and what that
 * list has no room for goes back to the head of probation. Victims leave from the tail of probation.
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({
  protectedRatio: z
    .number()
    .min(0)
    .max(1)
    .default(0.8)
    .describe('share of the capacity kept for blocks hit at least once'),
});
const PROBATION = 1;
const PROTECTED = 2;

class SlruCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;
  readonly #protectedBlocks: number;

  constructor(capacityBlocks: number, universe: number, protectedRatio: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 2);
    // At least one slot stays on probation, where misses enter.
    this.#protectedBlocks = Math.min(capacityBlocks - 1, Math.floor(capacityBlocks * protectedRatio));
  }

  get residentBlocks(): number {
    const { lengths } = this.#lists;
    return lengths[PROBATION] + lengths[PROTECTED];
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(id: number): void {
    const lists = this.#lists;
    lists.moveToHead(PROTECTED, id);
    if (lists.lengths[PROTECTED] > this.#protectedBlocks) lists.moveToHead(PROBATION, lists.tail(PROTECTED));
  }

  evict(): number {
    const lists = this.#lists;
    // Only while room is made for many blocks at once can probation run dry.
    return lists.popTail(lists.lengths[PROBATION] > 0 ? PROBATION : PROTECTED);
  }

  insert(id: number): void {
    this.#lists.pushHead(PROBATION, id);
  }
}

export const eviction = {
  kind: 'slru',
  title: 'LRU in two segments: new blocks on probation, blocks that were hit protected',
  source: 'Karedla, Love & Wherry, IEEE Computer 27(3), 1994, doi:10.1109/2.268884',
  offline: false,
  entry: 'tail-first',
  config,
  create: (capacityBlocks, universe, { protectedRatio }): BlockCache =>
    new SlruCache(capacityBlocks, universe, protectedRatio),
} satisfies Eviction<typeof config>;
