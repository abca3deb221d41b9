/**
 * Belady's MIN: the block whose next access lies furthest ahead leaves. Offline, so a bound for the other rules: with
 * equal blocks that must all be inserted no rule has more block hits over the same sequence of accesses. (Prefix hits
 * count something else, so there it is a strong reference, not a proven bound.)
 */
import * as z from 'zod';
import { invariant } from '../../error.ts';
import type { BlockCache, Eviction } from './eviction.ts';

const config = z.object({});

/**
 * For each access, the position of the next access to the same block; a block that never returns gets
 * accesses.length + id, so that every resident block has a key of its own. Fills `first` (one slot a block) with the
 * position of each block's first access.
 */
const nextUses = (accesses: Int32Array, first: Int32Array): Int32Array => {
  const next = new Int32Array(accesses.length);
  for (let id = 0; id < first.length; id++) first[id] = accesses.length + id;
  for (let at = accesses.length - 1; at >= 0; at--) {
    const id = accesses[at];
    next[at] = first[id];
    first[id] = at;
  }
  return next;
};

/** A set of integers 0 .. size - 1 with its maximum: bits in words of 32, and words of which words are in use above. */
class MaxSet {
  readonly #levels: Int32Array[] = [];

  constructor(size: number) {
    let words = size;
    do {
      words = Math.max(1, Math.ceil(words / 32));
      this.#levels.push(new Int32Array(words));
    } while (words > 1);
  }

  add(value: number): void {
    let at = value;
    for (const level of this.#levels) {
      level[at >>> 5] |= 1 << (at & 31);
      at >>>= 5;
    }
  }

  delete(value: number): void {
    let at = value;
    for (const level of this.#levels) {
      level[at >>> 5] &= ~(1 << (at & 31));
      if (level[at >>> 5] !== 0) return;
      at >>>= 5;
    }
  }

  /** The greatest member; the set must not be empty. */
  max(): number {
    let at = 0;
    for (let depth = this.#levels.length - 1; depth >= 0; depth--) {
      at = (at << 5) | (31 - Math.clz32(this.#levels[depth][at]));
    }
    return at;
  }
}

class BeladyCache implements BlockCache {
  readonly capacityBlocks: number;
  residentBlocks = 0;
  readonly #accesses: Int32Array;
  readonly #nextUses: Int32Array;
  /** For each block, the position of its access that comes next (accesses.length + id: none comes). */
  readonly #upcoming: Int32Array;
  readonly #resident: Uint8Array;
  /** Upcoming positions of the resident blocks. */
  readonly #coming: MaxSet;

  constructor(capacityBlocks: number, universe: number, accesses: Int32Array) {
    this.capacityBlocks = capacityBlocks;
    this.#accesses = accesses;
    this.#upcoming = new Int32Array(universe);
    this.#nextUses = nextUses(accesses, this.#upcoming);
    this.#resident = new Uint8Array(universe);
    this.#coming = new MaxSet(accesses.length + universe);
  }

  has(id: number): boolean {
    return this.#resident[id] !== 0;
  }

  touch(id: number): void {
    this.#coming.delete(this.#upcoming[id]);
    this.#coming.add(this.#advance(id));
  }

  evict(): number {
    const { length } = this.#accesses;
    const furthest = this.#coming.max();
    const victim = furthest < length ? this.#accesses[furthest] : furthest - length;
    this.#coming.delete(furthest);
    this.#resident[victim] = 0;
    this.residentBlocks--;
    return victim;
  }

  insert(id: number): void {
    this.#resident[id] = 1;
    this.residentBlocks++;
    this.#coming.add(this.#advance(id));
  }

  /** The block is accessed: its upcoming access is now the one after that. */
  #advance(id: number): number {
    const at = this.#upcoming[id];
    invariant(at < this.#accesses.length, `belady: block ${id} is accessed more often than foreseen`);
    this.#upcoming[id] = this.#nextUses[at];
    return this.#nextUses[at];
  }
}

export const eviction = {
  kind: 'belady',
  title: 'the block needed furthest in the future leaves (offline optimum for block hits)',
  source: 'Belady, IBM Systems Journal 5(2), 1966, doi:10.1147/sj.52.0078',
  offline: true,
  entry: 'head-first',
  config,
  create: (capacityBlocks, universe, _config, future): BlockCache =>
    new BeladyCache(capacityBlocks, universe, future),
} satisfies Eviction<typeof config>;
