/**
 * The pending-event set: a stable binary heap over two Float64Array columns. The order of events is defined here and
 * nowhere else: (timeNs, phase, order of push). Column `tag` = phase·2^50 + sequence·2^20 + slot, so one comparison
 * settles ties. Cancelling marks the event; dead events leave when they reach the top or outnumber the living.
 */
import { SimError } from '../error.ts';

/** Work at an instant runs before queues are served, and those before shared rates are set anew. */
export const PHASE_WORK = 0;
export const PHASE_DISPATCH = 1;
export const PHASE_SETTLE = 2;
export const PHASES = 8;

const SLOT_LIMIT = 1 << 20;
const SLOT_MASK = SLOT_LIMIT - 1;
const PHASE_UNIT = 2 ** 50;

/** A pending event as cancel() takes it: generation·2^20 + slot; goes stale when the event leaves the queue. */
export type EventHandle = number;

export class EventQueue {
  /** Columns by slot. A slot that pop() returned keeps its row until the next push. */
  kind: Int32Array;
  a: Float64Array;
  b: Float64Array;
  /** Time of the event that pop() returned last. */
  timeNs = 0;
  #times: Float64Array;
  #tags: Float64Array;
  #generation: Uint32Array;
  #isDead: Uint8Array;
  #freeSlots: Int32Array;
  #freeCount: number;
  #heapSize = 0;
  #deadCount = 0;
  #sequence = 0;
  readonly #sequenceLimit: number;

  /** `sequenceLimit` = pushes between renumberings; smaller than the default only in tests. */
  constructor(capacity = 16, sequenceLimit = 2 ** 30) {
    this.kind = new Int32Array(capacity);
    this.a = new Float64Array(capacity);
    this.b = new Float64Array(capacity);
    this.#times = new Float64Array(capacity);
    this.#tags = new Float64Array(capacity);
    this.#generation = new Uint32Array(capacity);
    this.#isDead = new Uint8Array(capacity);
    this.#freeSlots = Int32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.#freeCount = capacity;
    this.#sequenceLimit = sequenceLimit;
  }

  /** Events that wait and are not cancelled. */
  get size(): number {
    return this.#heapSize - this.#deadCount;
  }

  /** Time of the next event, Infinity when there is none. */
  get nextTimeNs(): number {
    return this.#heapSize > 0 ? this.#times[0] : Number.POSITIVE_INFINITY;
  }

  /** Slot of the next event, -1 when there is none; it stays in the queue. */
  get nextSlot(): number {
    return this.#heapSize > 0 ? this.#tags[0] & SLOT_MASK : -1;
  }

  /** Adds an event. `timeNs` must not be NaN; `phase` is 0 .. 7; kind, a and b are the caller's. */
  push(timeNs: number, phase: number, kind: number, a: number, b: number): EventHandle {
    if (this.#freeCount === 0) this.#grow();
    if (this.#sequence === this.#sequenceLimit) this.#renumber();
    const slot = this.#freeSlots[--this.#freeCount];
    this.kind[slot] = kind;
    this.a[slot] = a;
    this.b[slot] = b;
    this.#siftUp(this.#heapSize++, timeNs, phase * PHASE_UNIT + this.#sequence++ * SLOT_LIMIT + slot);
    return this.#generation[slot] * SLOT_LIMIT + slot;
  }

  /** Takes the next event out: sets timeNs and returns its slot, or -1 when the queue is empty. */
  pop(): number {
    if (this.#heapSize === 0) return -1;
    this.timeNs = this.#times[0];
    const slot = this.#tags[0] & SLOT_MASK;
    this.#release(slot);
    this.#removeTop();
    if (this.#deadCount > 0) this.#dropDeadTop();
    return slot;
  }

  /** Takes a pending event out; false when it has already left. */
  cancel(handle: EventHandle): boolean {
    const slot = handle & SLOT_MASK;
    if (slot >= this.#generation.length) return false;
    if (this.#generation[slot] * SLOT_LIMIT + slot !== handle || this.#isDead[slot] === 1) return false;
    // A free slot's generation has moved on, so its old handles fail above; this one is pending.
    this.#isDead[slot] = 1;
    this.#deadCount++;
    this.#dropDeadTop();
    if (this.#deadCount > 32 && this.#deadCount * 2 > this.#heapSize) this.#compact();
    return true;
  }

  /** Moves every pending event by the same time; equal times after rounding fall back to (phase, order of push). */
  shift(deltaNs: number): void {
    for (let i = 0; i < this.#heapSize; i++) this.#times[i] += deltaNs;
    this.#heapify();
  }

  #release(slot: number): void {
    this.#generation[slot]++;
    this.#freeSlots[this.#freeCount++] = slot;
  }

  #siftUp(from: number, timeNs: number, tag: number): void {
    const times = this.#times;
    const tags = this.#tags;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const parentTimeNs = times[parent];
      if (parentTimeNs <= timeNs && (parentTimeNs < timeNs || tags[parent] < tag)) break;
      times[at] = parentTimeNs;
      tags[at] = tags[parent];
      at = parent;
    }
    times[at] = timeNs;
    tags[at] = tag;
  }

  #siftDown(from: number, timeNs: number, tag: number): void {
    const times = this.#times;
    const tags = this.#tags;
    const size = this.#heapSize;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      let childTimeNs = times[child];
      const right = child + 1;
      if (right < size) {
        const rightTimeNs = times[right];
        if (rightTimeNs <= childTimeNs && (rightTimeNs < childTimeNs || tags[right] < tags[child])) {
          child = right;
          childTimeNs = rightTimeNs;
        }
      }
      if (timeNs <= childTimeNs && (timeNs < childTimeNs || tag < tags[child])) break;
      times[at] = childTimeNs;
      tags[at] = tags[child];
      at = child;
    }
    times[at] = timeNs;
    tags[at] = tag;
  }

  #removeTop(): void {
    const last = --this.#heapSize;
    if (last > 0) this.#siftDown(0, this.#times[last], this.#tags[last]);
  }

  /** Keeps the promise that the top of the heap is alive. */
  #dropDeadTop(): void {
    while (this.#deadCount > 0) {
      const slot = this.#tags[0] & SLOT_MASK;
      if (this.#isDead[slot] === 0) return;
      this.#isDead[slot] = 0;
      this.#deadCount--;
      this.#release(slot);
      this.#removeTop();
    }
  }

  #compact(): void {
    let kept = 0;
    for (let i = 0; i < this.#heapSize; i++) {
      const slot = this.#tags[i] & SLOT_MASK;
      if (this.#isDead[slot] === 1) {
        this.#isDead[slot] = 0;
        this.#release(slot);
      } else {
        this.#times[kept] = this.#times[i];
        this.#tags[kept++] = this.#tags[i];
      }
    }
    this.#heapSize = kept;
    this.#deadCount = 0;
    this.#heapify();
  }

  #heapify(): void {
    for (let i = (this.#heapSize >> 1) - 1; i >= 0; i--) this.#siftDown(i, this.#times[i], this.#tags[i]);
  }

  /** Gives pending events the sequence numbers 0, 1, 2 … in their present order; the heap stays as it is. */
  #renumber(): void {
    const size = this.#heapSize;
    const sorted = this.#tags.slice(0, size).sort();
    const renumbered = new Float64Array(this.kind.length);
    for (let rank = 0; rank < size; rank++) {
      const slot = sorted[rank] & SLOT_MASK;
      const phase = Math.floor(sorted[rank] / PHASE_UNIT);
      renumbered[slot] = phase * PHASE_UNIT + rank * SLOT_LIMIT + slot;
    }
    for (let i = 0; i < size; i++) this.#tags[i] = renumbered[this.#tags[i] & SLOT_MASK];
    this.#sequence = size;
    if (size >= this.#sequenceLimit) throw new SimError('capacity-exceeded', `${size} events pend at once`);
  }

  #grow(): void {
    const old = this.kind.length;
    if (old >= SLOT_LIMIT) {
      throw new SimError(
        'capacity-exceeded',
        `more than ${SLOT_LIMIT} events pend at time ${this.timeNs} ns`,
      );
    }
    const capacity = Math.min(old * 2, SLOT_LIMIT);
    const kind = new Int32Array(capacity);
    kind.set(this.kind);
    this.kind = kind;
    const isDead = new Uint8Array(capacity);
    isDead.set(this.#isDead);
    this.#isDead = isDead;
    const generation = new Uint32Array(capacity);
    generation.set(this.#generation);
    this.#generation = generation;
    this.a = grownFloat64(this.a, capacity);
    this.b = grownFloat64(this.b, capacity);
    this.#times = grownFloat64(this.#times, capacity);
    this.#tags = grownFloat64(this.#tags, capacity);
    this.#freeSlots = new Int32Array(capacity);
    for (let slot = capacity - 1; slot >= old; slot--) this.#freeSlots[this.#freeCount++] = slot;
  }
}

const grownFloat64 = (column: Float64Array, capacity: number): Float64Array => {
  const grown = new Float64Array(capacity);
  grown.set(column);
  return grown;
};
