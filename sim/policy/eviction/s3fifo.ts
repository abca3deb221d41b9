/**
 * S3-FIFO: new blocks pass through a small queue that lets only blocks with repeated hits into the main queue; those
 * that leave it unproven are remembered in a ghost queue and enter the main queue directly if they return.
 * Parameters as in the paper's section 4 and LMCache: small queue 10 %, ghosts as many as the main queue holds.
 * The small queue gives way once it holds more than its share (the paper: as much), since room is made before the
 * newcomer enters it.
 */
import * as z from 'zod';
import { BlockLists, NOWHERE } from './block-lists.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({
  smallRatio: z.number().min(0).max(1).default(0.1).describe('share of the capacity for the small queue'),
  ghostRatio: z.number().min(0).default(1).describe('ghosts as a multiple of the main queue’s share'),
  promoteHits: z
    .number()
    .int()
    .min(1)
    .default(2)
    .describe('hits in the small queue that let a block into the main queue'),
  maxHits: z.number().int().min(1).max(255).default(3).describe('where the hit counter of a block saturates'),
});
type S3FifoConfig = z.infer<typeof config>;

const SMALL = 1;
const MAIN = 2;
const GHOST = 3;

class S3FifoCache implements BlockCache {
  readonly capacityBlocks: number;
  readonly #lists: BlockLists;
  readonly #hits: Uint8Array;
  readonly #smallBlocks: number;
  readonly #ghostBlocks: number;
  readonly #promoteHits: number;
  readonly #maxHits: number;

  constructor(capacityBlocks: number, universe: number, parameters: S3FifoConfig) {
    this.capacityBlocks = capacityBlocks;
    this.#lists = new BlockLists(universe, 3);
    this.#hits = new Uint8Array(universe);
    this.#smallBlocks = Math.floor(capacityBlocks * parameters.smallRatio);
    this.#ghostBlocks = Math.floor((capacityBlocks - this.#smallBlocks) * parameters.ghostRatio);
    this.#promoteHits = parameters.promoteHits;
    this.#maxHits = Math.max(parameters.maxHits, parameters.promoteHits);
  }

  get residentBlocks(): number {
    const { lengths } = this.#lists;
    return lengths[SMALL] + lengths[MAIN];
  }

  has(id: number): boolean {
    const list = this.#lists.where[id];
    return list === SMALL || list === MAIN;
  }

  touch(id: number): void {
    if (this.#hits[id] < this.#maxHits) this.#hits[id]++;
  }

  evict(): number {
    const { lengths } = this.#lists;
    if (lengths[SMALL] > this.#smallBlocks || lengths[MAIN] === 0) {
      const victim = this.#evictSmall();
      if (victim >= 0) return victim;
    }
    return this.#evictMain();
  }

  insert(id: number): void {
    const lists = this.#lists;
    this.#hits[id] = 0;
    if (lists.where[id] === NOWHERE) lists.pushHead(SMALL, id);
    else lists.moveToHead(MAIN, id);
  }

  /** Proven blocks move on, their hits forgotten; the first unproven one leaves. -1 when all were proven. */
  #evictSmall(): number {
    const lists = this.#lists;
    const hits = this.#hits;
    while (lists.lengths[SMALL] > 0) {
      const id = lists.tail(SMALL);
      if (hits[id] < this.#promoteHits) {
        lists.remove(id);
        this.#remember(id);
        return id;
      }
      hits[id] = 0;
      lists.moveToHead(MAIN, id);
    }
    return -1;
  }

  /** A block that was hit goes round again, one hit poorer. */
  #evictMain(): number {
    const lists = this.#lists;
    const hits = this.#hits;
    let id = lists.tail(MAIN);
    while (hits[id] > 0) {
      hits[id]--;
      lists.moveToHead(MAIN, id);
      id = lists.tail(MAIN);
    }
    lists.remove(id);
    return id;
  }

  #remember(id: number): void {
    const lists = this.#lists;
    if (this.#ghostBlocks === 0) return;
    if (lists.lengths[GHOST] >= this.#ghostBlocks) lists.popTail(GHOST);
    lists.pushHead(GHOST, id);
  }
}

export const eviction = {
  kind: 's3fifo',
  title: 'small queue that filters one-hit blocks, main queue, ghost queue (S3-FIFO)',
  source:
    'Yang et al., FIFO Queues are All You Need for Cache Eviction, SOSP 2023, doi:10.1145/3600006.3613147',
  offline: false,
  entry: 'head-first',
  config,
  create: (capacityBlocks, universe, parameters): BlockCache =>
    new S3FifoCache(capacityBlocks, universe, parameters),
} satisfies Eviction<typeof config>;
