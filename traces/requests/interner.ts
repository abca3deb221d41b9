/**
 * Numbers block hashes densely by first appearance. Small integers, which most traces use, go through a table;
 * everything else through a map.
 */
import type { BlockHash } from './request-trace.ts';

const UNKNOWN = -1;
/** A table may be this much longer than the number of hashes seen, so that one large hash cannot fill the memory. */
const SPARSE_SLOTS = 1 << 20;
const SPARSE_RATIO = 4;

export class Interner {
  /** Hashes seen = the next dense id. */
  size = 0;
  #table = new Int32Array(1024).fill(UNKNOWN);
  readonly #others = new Map<BlockHash, number>();

  /** The dense id of the hash. */
  intern(hash: BlockHash): number {
    if (typeof hash === 'number' && hash >= 0 && hash < this.#table.length) {
      const id = this.#table[hash];
      if (id !== UNKNOWN) return id;
    }
    return this.#find(hash);
  }

  #find(hash: BlockHash): number {
    const known = this.#others.get(hash);
    if (known !== undefined) return known;
    const id = this.size++;
    if (typeof hash === 'number' && Number.isInteger(hash) && hash >= 0 && this.#reaches(hash))
      this.#table[hash] = id;
    else this.#others.set(hash, id);
    return id;
  }

  /** Grows the table up to the hash if that is worth its memory. */
  #reaches(hash: number): boolean {
    if (hash < this.#table.length) return true;
    if (hash >= this.size * SPARSE_RATIO + SPARSE_SLOTS) return false;
    const grown = new Int32Array(Math.max(hash + 1, this.#table.length * 2)).fill(UNKNOWN);
    grown.set(this.#table);
    this.#table = grown;
    return true;
  }
}
