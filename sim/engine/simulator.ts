/**
 * The clock and the event loop. Handlers are registered once and called by their integer kind with two numbers, so an
 * event allocates nothing. Time never decreases; scheduling in the past stops the run. Each kind belongs to a phase,
 * and the queue's order (timeNs, phase, order of scheduling) is the only order there is.
 */
import { invariant, SimError } from '../error.ts';
import { type EventHandle, EventQueue, PHASE_WORK, PHASES } from './queue.ts';
import type { Recorder } from './recorder.ts';

/** What an event of one kind does; `a` and `b` are what schedule() was given (integers below 2^53, or any double). */
export type Handler = (a: number, b: number) => void;

export class Simulator {
  readonly #queue = new EventQueue(64);
  readonly #handlers: Handler[] = [];
  readonly #names: string[] = [];
  readonly #phases: number[] = [];
  readonly #recorder: Recorder | null;
  #timeNs = 0;
  #events = 0;
  #isStopped = false;

  constructor(recorder: Recorder | null) {
    this.#recorder = recorder;
  }

  /** Present simulated time, ns. */
  get timeNs(): number {
    return this.#timeNs;
  }

  /** Events handled so far. */
  get events(): number {
    return this.#events;
  }

  /** Events that wait. */
  get pending(): number {
    return this.#queue.size;
  }

  /** Registers a handler; the returned kind is what schedule() takes. The name appears in error messages. */
  addHandler(name: string, handler: Handler, phase: number = PHASE_WORK): number {
    if (!Number.isInteger(phase) || phase < 0 || phase >= PHASES) {
      throw new SimError(
        'invalid-input',
        `handler ${name}: expected a phase of 0 .. ${PHASES - 1}, got ${phase}`,
      );
    }
    this.#names.push(name);
    this.#phases.push(phase);
    return this.#handlers.push(handler) - 1;
  }

  /** Lets handler `kind` run at absolute time `timeNs` >= the clock. Throws SimError on the past, NaN or Infinity. */
  schedule(timeNs: number, kind: number, a = 0, b = 0): EventHandle {
    if (!(timeNs >= this.#timeNs && timeNs < Number.POSITIVE_INFINITY)) this.#rejectTime(timeNs, kind);
    return this.#queue.push(timeNs, this.#phases[kind], kind, a, b);
  }

  #rejectTime(timeNs: number, kind: number): never {
    throw new SimError(
      'invariant-broken',
      `event ${this.#names[kind] ?? kind} scheduled for ${timeNs} ns at time ${this.#timeNs} ns: expected a time not before it`,
    );
  }

  /** Takes a pending event back; false when it has run or was cancelled. */
  cancel(handle: EventHandle): boolean {
    return this.#queue.cancel(handle);
  }

  /** Ends run() after the present event; pending events stay and a later run() goes on. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Handles events up to and including `untilNs`, then sets the clock to `untilNs` if it is finite and nothing stopped
   * the run. Returns the number of events handled by this call.
   */
  run(untilNs: number = Number.POSITIVE_INFINITY): number {
    invariant(
      untilNs >= this.#timeNs,
      `run until ${untilNs} ns at time ${this.#timeNs} ns: expected a later time`,
    );
    const queue = this.#queue;
    const handlers = this.#handlers;
    const recorder = this.#recorder;
    const before = this.#events;
    this.#isStopped = false;
    while (!this.#isStopped && queue.nextTimeNs <= untilNs) {
      const slot = queue.pop();
      if (slot < 0) break;
      const kind = queue.kind[slot];
      const a = queue.a[slot];
      const b = queue.b[slot];
      this.#timeNs = queue.timeNs;
      this.#events++;
      if (recorder !== null) recorder.record(queue.timeNs, kind, a, b);
      handlers[kind](a, b);
    }
    if (!this.#isStopped && untilNs < Number.POSITIVE_INFINITY) this.#timeNs = untilNs;
    return this.#events - before;
  }
}

/** A simulator at time 0. With a recorder, every handled event goes into its digest. */
export const createSimulator = (options: { readonly recorder?: Recorder } = {}): Simulator =>
  new Simulator(options.recorder ?? null);
