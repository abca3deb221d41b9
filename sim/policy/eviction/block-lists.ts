/**
 * Doubly linked lists over dense block ids, in two Int32Array columns; each list hangs on a sentinel of its own.
 * A block is in at most one list, so resident queues and ghost queues of one rule share the columns.
 * Constant time, no allocation after construction.
 */

/** In no list. */
export const NOWHERE = 0;

export class BlockLists {
  /** Towards the tail. Slot universe + list is the list's sentinel. */
  readonly next: Int32Array;
  /** Towards the head. */
  readonly prev: Int32Array;
  /** The list that holds each block (1, 2, …), or NOWHERE. */
  readonly where: Uint8Array;
  /** Blocks in each list. */
  readonly lengths: Int32Array;
  readonly #universe: number;

  /** Lists are numbered 1 .. lists. */
  constructor(universe: number, lists: number) {
    const slots = universe + lists + 1;
    this.next = new Int32Array(slots);
    this.prev = new Int32Array(slots);
    this.where = new Uint8Array(universe);
    this.lengths = new Int32Array(lists + 1);
    this.#universe = universe;
    for (let slot = universe; slot < slots; slot++) {
      this.next[slot] = slot;
      this.prev[slot] = slot;
    }
  }

  /** The block must be in no list. */
  pushHead(list: number, id: number): void {
    const { next, prev } = this;
    const sentinel = this.#universe + list;
    const head = next[sentinel];
    next[sentinel] = id;
    prev[id] = sentinel;
    next[id] = head;
    prev[head] = id;
    this.where[id] = list;
    this.lengths[list]++;
  }

  /** The block must be in a list. */
  remove(id: number): void {
    const { next, prev, where } = this;
    const before = prev[id];
    const after = next[id];
    next[before] = after;
    prev[after] = before;
    this.lengths[where[id]]--;
    where[id] = NOWHERE;
  }

  /** Takes the block out of its list and puts it at the head of `list`. */
  moveToHead(list: number, id: number): void {
    this.remove(id);
    this.pushHead(list, id);
  }

  /** The oldest block of the list, or -1. */
  tail(list: number): number {
    const sentinel = this.#universe + list;
    const id = this.prev[sentinel];
    return id === sentinel ? -1 : id;
  }

  /** Takes the oldest block out of a list that has one. */
  popTail(list: number): number {
    const id = this.prev[this.#universe + list];
    this.remove(id);
    return id;
  }

  /** The block one step nearer to the head, or -1 at the head. */
  towardsHead(id: number): number {
    const before = this.prev[id];
    return before >= this.#universe ? -1 : before;
  }
}
