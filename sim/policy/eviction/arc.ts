/**
 * ARC, adaptive replacement cache: blocks seen once (T1) and blocks seen again (T2) share the capacity; ghosts of what
 * either list lost (B1, B2) move the target between them. Follows figure 4 of the paper with its real-valued target.
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({});
const T1 = 1;
const T2 = 2;
const B1 = 3;
const B2 = 4;

class ArcCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;
  /** Target length of T1, 0 .. capacityBlocks. */
  #target = 0;

  constructor(capacityBlocks: number, universe: number) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 4);
  }

  get residentBlocks(): number {
    const { lengths } = this.#lists;
    return lengths[T1] + lengths[T2];
  }

  has(id: number): boolean {
    const list = this.#lists.where[id];
    return list === T1 || list === T2;
  }

  touch(id: number): void {
    this.#lists.moveToHead(T2, id);
  }

  /** Adapts the target if the incoming block is a ghost (cases II and III), then turns a block into a ghost (REPLACE). */
  evict(incomingId: number): number {
    const lists = this.#lists;
    const { lengths, where } = lists;
    const ghosts = where[incomingId];
    if (ghosts === B1 || ghosts === B2) this.#adapt(ghosts);
    const once = lengths[T1];
    const overTarget = once > this.#target || (ghosts === B2 && once === this.#target);
    const fromT1 = once > 0 && (overTarget || lengths[T2] === 0);
    const victim = lists.tail(fromT1 ? T1 : T2);
    lists.moveToHead(fromT1 ? B1 : B2, victim);
    return victim;
  }

  insert(id: number): void {
    const lists = this.#lists;
    const { lengths, where } = lists;
    if (where[id] === NOWHERE) lists.pushHead(T1, id);
    else lists.moveToHead(T2, id);
    // Case IV bounds the directory: c blocks seen once, 2c in all. Trimming after the insertion leaves the same lists.
    while (lengths[T1] + lengths[B1] > this.capacityBlocks) lists.popTail(B1);
    while (lengths[T1] + lengths[T2] + lengths[B1] + lengths[B2] > 2 * this.capacityBlocks) lists.popTail(B2);
  }

  /** The list that lost the block was too short: the target of T1 moves by at least one block. */
  #adapt(ghosts: number): void {
    const { lengths } = this.#lists;
    const ratio = ghosts === B1 ? lengths[B2] / lengths[B1] : lengths[B1] / lengths[B2];
    const step = Math.max(1, ratio);
    this.#target =
      ghosts === B1 ? Math.min(this.capacityBlocks, this.#target + step) : Math.max(0, this.#target - step);
  }
}

export const eviction = {
  kind: 'arc',
  title: 'adaptive balance of recency and frequency, steered by ghost hits (ARC)',
  source: 'Megiddo & Modha, ARC: A Self-Tuning, Low Overhead Replacement Cache, FAST 2003',
  offline: false,
  entry: 'tail-first',
  config,
  create: (capacityBlocks, universe): BlockCache => new ArcCache(capacityBlocks, universe),
} satisfies Eviction<typeof config>;
