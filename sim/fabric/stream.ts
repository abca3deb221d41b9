/**
 * In-order streams with events to wait on, as on a GPU: an operation becomes ready when the one before it on its
 * stream and all that it waits for are complete. Knows nothing of time or resources; whoever runs the operations says
 * when they complete.
 */

import { createColumns } from '../engine/columns.ts';
import type { Simulator } from '../engine/simulator.ts';
import { SimError } from '../error.ts';

const NONE = -1;

export class Streams {
  readonly #simulator: Simulator;
  readonly #readyKind: number;
  readonly #last: Int32Array;
  /** By operation: what it still waits for (-1 = complete), its payload, and its list of dependents. */
  readonly #operations = createColumns({ waits: 'i32', payload: 'f64', firstEdge: 'i32', lastEdge: 'i32' });
  readonly #edges = createColumns({ dependent: 'i32', next: 'i32' });
  #open = 0;

  constructor(simulator: Simulator, streams: number, readyKind: number) {
    this.#simulator = simulator;
    this.#readyKind = readyKind;
    this.#last = new Int32Array(streams).fill(NONE);
  }

  /** Operations submitted and not complete. */
  get open(): number {
    return this.#open;
  }

  /**
   * Puts an operation at the end of a stream; it also waits for the operations in `after`. Returns its number: 0, 1, …
   * in submission order. When it is ready, handler `readyKind` runs with (payload, number) at that instant; of the
   * operations that one completion makes ready, the first submitted comes first.
   */
  submit(stream: number, after: ArrayLike<number>, payload: number): number {
    if (!(stream >= 0 && stream < this.#last.length)) {
      throw new SimError('invalid-input', `stream: expected 0 .. ${this.#last.length - 1}, got ${stream}`);
    }
    const operation = this.#operations.add();
    const { waits, payload: payloads, firstEdge, lastEdge } = this.#operations.data;
    waits[operation] = 0;
    payloads[operation] = payload;
    firstEdge[operation] = NONE;
    lastEdge[operation] = NONE;
    if (this.#last[stream] !== NONE) this.#waitFor(operation, this.#last[stream]);
    for (let i = 0; i < after.length; i++) {
      if (!(after[i] >= 0 && after[i] < operation)) {
        throw new SimError(
          'invalid-input',
          `operation ${operation}: expected to wait for earlier ones, got ${after[i]}`,
        );
      }
      this.#waitFor(operation, after[i]);
    }
    this.#last[stream] = operation;
    this.#open++;
    if (waits[operation] === 0) this.#ready(operation);
    return operation;
  }

  #waitFor(operation: number, other: number): void {
    const { waits, firstEdge, lastEdge } = this.#operations.data;
    if (waits[other] < 0) return;
    waits[operation]++;
    const edge = this.#edges.add();
    const { dependent, next } = this.#edges.data;
    dependent[edge] = operation;
    next[edge] = NONE;
    if (firstEdge[other] === NONE) firstEdge[other] = edge;
    else next[lastEdge[other]] = edge;
    lastEdge[other] = edge;
  }

  #ready(operation: number): void {
    const payload = this.#operations.data.payload[operation];
    this.#simulator.schedule(this.#simulator.timeNs, this.#readyKind, payload, operation);
  }

  /** The operation has ended; what waited for it alone becomes ready at this instant. */
  complete(operation: number): void {
    const { waits, firstEdge } = this.#operations.data;
    if (waits[operation] !== 0) {
      const state =
        waits[operation] > 0 ? `it still waits for ${waits[operation]}` : 'it is complete already';
      throw new SimError(
        'invariant-broken',
        `operation ${operation} completes at ${this.#simulator.timeNs} ns: ${state}`,
      );
    }
    waits[operation] = -1;
    this.#open--;
    const { dependent, next } = this.#edges.data;
    for (let edge = firstEdge[operation]; edge !== NONE; edge = next[edge]) {
      if (--waits[dependent[edge]] === 0) this.#ready(dependent[edge]);
    }
  }

  /** Forgets all operations, so that numbers start at 0 again; all must be complete. */
  clear(): void {
    if (this.#open > 0)
      throw new SimError('invariant-broken', `streams cleared with ${this.#open} open operations`);
    this.#operations.length = 0;
    this.#edges.length = 0;
    this.#last.fill(NONE);
  }
}

/** `streams` in-order queues; handler `readyKind` of the simulator runs when an operation may start. */
export const createStreams = (simulator: Simulator, streams: number, readyKind: number): Streams =>
  new Streams(simulator, streams, readyKind);
