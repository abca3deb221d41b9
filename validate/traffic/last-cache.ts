/**
 * The last cache before a memory, as far as bytes tell: what was touched last stays, what was touched longest ago leaves
 * first, and what was written reaches memory when it leaves. Real caches know ages by set and only roughly; what whole
 * steps read and write by hardware counters is met without that (docs/validation.md).
 */

/** Memory is read and written in pieces of this size, bytes: an HBM burst, two sectors of a GPU's L2. */
export const PIECE_BYTES = 64;
/** Pieces of one entry: a bit each. Entries come and leave whole. */
const ENTRY_PIECES = 32;
export const ENTRY_BYTES = ENTRY_PIECES * PIECE_BYTES;

/** How many bits are set. */
const bitsIn = (mask: number): number => {
  let bits = mask - ((mask >>> 1) & 0x5555_5555);
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
};

/** Pieces of an entry from byte `from` of it to byte `to`, begun ones whole; 0 <= from < to <= ENTRY_BYTES. */
export const piecesOf = (from: number, to: number): number => {
  const first = Math.floor(from / PIECE_BYTES);
  const count = Math.ceil(to / PIECE_BYTES) - first;
  return (count === ENTRY_PIECES ? -1 : ((1 << count) - 1) << first) | 0;
};

/**
 * `read`: asked of this memory. `write`: written by a kernel, kept until it leaves. `through`: written by a copy engine, in
 * memory at once and kept too (an H100's counters miss none of what was copied, and attention finds it). `pass`: read from
 * elsewhere, it only takes room, as host memory that a GPU's kernels read.
 */
export type Access = 'read' | 'write' | 'through' | 'pass';

export class LastCache {
  /** What memory gave and took, bytes. */
  readBytes = 0;
  writtenBytes = 0;
  private readonly capacityBytes: number;
  private residentBytes = 0;
  /** Of each entry: pieces that are here, pieces that memory does not have yet. */
  private readonly here: Int32Array;
  private readonly changed: Int32Array;
  /** Entries by age in a ring; the last place is its head. */
  private readonly newer: Int32Array;
  private readonly older: Int32Array;
  private readonly head: number;

  /** `entries` = of all memory that will be touched, the first at 0. */
  constructor(capacityBytes: number, entries: number) {
    this.capacityBytes = capacityBytes;
    this.here = new Int32Array(entries);
    this.changed = new Int32Array(entries);
    this.newer = new Int32Array(entries + 1);
    this.older = new Int32Array(entries + 1);
    this.head = entries;
    this.newer[entries] = entries;
    this.older[entries] = entries;
  }

  touch(entry: number, pieces: number, access: Access): void {
    const before = this.here[entry];
    const missing = PIECE_BYTES * bitsIn(pieces & ~before);
    if (before !== 0) this.unlink(entry);
    this.linkNewest(entry);
    this.here[entry] = before | pieces;
    this.residentBytes += missing;
    if (access === 'read') this.readBytes += missing;
    else if (access === 'write') this.changed[entry] |= pieces;
    else if (access === 'through') {
      this.changed[entry] &= ~pieces;
      this.writtenBytes += PIECE_BYTES * bitsIn(pieces);
    }
    while (this.residentBytes > this.capacityBytes) this.leave(this.newer[this.head]);
  }

  /** What memory does not have yet, bytes. */
  get unwrittenBytes(): number {
    let pieces = 0;
    for (let at = this.newer[this.head]; at !== this.head; at = this.newer[at])
      pieces += bitsIn(this.changed[at]);
    return PIECE_BYTES * pieces;
  }

  private leave(entry: number): void {
    this.unlink(entry);
    this.residentBytes -= PIECE_BYTES * bitsIn(this.here[entry]);
    this.writtenBytes += PIECE_BYTES * bitsIn(this.changed[entry]);
    this.here[entry] = 0;
    this.changed[entry] = 0;
  }

  private linkNewest(entry: number): void {
    const newest = this.older[this.head];
    this.newer[newest] = entry;
    this.older[entry] = newest;
    this.newer[entry] = this.head;
    this.older[this.head] = entry;
  }

  private unlink(entry: number): void {
    this.newer[this.older[entry]] = this.newer[entry];
    this.older[this.newer[entry]] = this.older[entry];
  }
}
