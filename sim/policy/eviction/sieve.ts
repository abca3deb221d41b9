/**
 * SIEVE: a queue that is never reordered, and a hand that walks from the oldest to the newest block, clears the mark
 * of each block that was hit, and evicts the first unmarked one; then stays where it is.
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({});
const QUEUE = 1;

class SieveCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;
  readonly #visited: Uint8Array;
  /** The block that the hand looks at next; -1 = the tail. */
  #hand = -1;

  constructor(capacityBlocks: number, universe: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 1);
    this.#visited = new Uint8Array(universe);
  }

  get residentBlocks(): number {
    return this.#lists.lengths[QUEUE];
  }

  has(id: number): boolean {
    return this.#lists.where[id] !== NOWHERE;
  }

  touch(id: number): void {
    this.#visited[id] = 1;
  }

  evict(): number {
    const lists = this.#lists;
    const visited = this.#visited;
    let hand = this.#hand < 0 ? lists.tail(QUEUE) : this.#hand;
    while (visited[hand] !== 0) {
      visited[hand] = 0;
      const newer = lists.towardsHead(hand);
      hand = newer < 0 ? lists.tail(QUEUE) : newer;
    }
    this.#hand = lists.towardsHead(hand);
    lists.remove(hand);
    return hand;
  }

  insert(id: number): void {
    this.#visited[id] = 0;
    this.#lists.pushHead(QUEUE, id);
  }
}

export const eviction = {
  kind: 'sieve',
  title: 'queue with a hand that evicts the first block not hit since it last passed',
  source: 'Zhang et al., SIEVE is Simpler than LRU, NSDI 2024',
  offline: false,
  entry: 'head-first',
  config,
  create: (capacityBlocks, universe): BlockCache => new SieveCache(capacityBlocks, universe),
} satisfies Eviction<typeof config>;
