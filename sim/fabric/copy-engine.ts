/**
 * A copy engine: one per direction, first in, first out, one copy at a time. A copy enters when it is ready; copies
 * that become ready at one instant enter in submission order. A running copy is never interrupted, so a long one holds
 * up all behind it (NVIDIA forum 365145: three concurrent H2D copies of an H100 serialise).
 */

import { createColumns } from '../engine/columns.ts';
import { EventQueue, PHASE_DISPATCH } from '../engine/queue.ts';
import type { Simulator } from '../engine/simulator.ts';
import { SimError } from '../error.ts';
import type { Fabric } from './flow.ts';

export class CopyEngine {
  readonly #simulator: Simulator;
  readonly #fabric: Fabric;
  readonly #jobs = createColumns({
    flowClass: 'i32',
    amount: 'f64',
    fixedNs: 'f64',
    doneKind: 'i32',
    payload: 'f64',
  });
  readonly #freeJobs: number[] = [];
  /** Copies that became ready at the present instant, by submission order. */
  readonly #arriving = new EventQueue();
  /** Copies that wait, by the time they became ready. */
  readonly #waiting = new EventQueue();
  readonly #endKind: number;
  readonly #dispatchKind: number;
  #isBusy = false;
  #isDispatching = false;
  #startedNs = 0;
  #busyNs = 0;

  constructor(simulator: Simulator, fabric: Fabric, name: string) {
    this.#simulator = simulator;
    this.#fabric = fabric;
    this.#endKind = simulator.addHandler(`copy engine ${name} ends`, (job) => this.#end(job));
    this.#dispatchKind = simulator.addHandler(
      `copy engine ${name} dispatches`,
      () => this.#dispatch(),
      PHASE_DISPATCH,
    );
  }

  /** Copies that wait or run. */
  get depth(): number {
    return this.#arriving.size + this.#waiting.size + (this.#isBusy ? 1 : 0);
  }

  /** Time up to now in which a copy held the engine, its fixed part included, ns. */
  get busyNs(): number {
    return this.#busyNs + (this.#isBusy ? this.#simulator.timeNs - this.#startedNs : 0);
  }

  /**
   * A copy is ready now. `order` is its place in submission (any integer that rises with it). It holds the engine for
   * `fixedNs` and then for a flow of `amount` in `flowClass` (held by the engine until it ends). Then handler
   * `doneKind` runs with (payload, amount).
   */
  enter(
    order: number,
    flowClass: number,
    amount: number,
    fixedNs: number,
    doneKind: number,
    payload: number,
  ): void {
    if (!(amount >= 0 && fixedNs >= 0)) {
      throw new SimError(
        'invalid-input',
        `copy: expected amount >= 0 and fixedNs >= 0, got ${amount} and ${fixedNs}`,
      );
    }
    const job = this.#freeJobs.pop() ?? this.#jobs.add();
    const { data } = this.#jobs;
    data.flowClass[job] = flowClass;
    data.amount[job] = amount;
    data.fixedNs[job] = fixedNs;
    data.doneKind[job] = doneKind;
    data.payload[job] = payload;
    this.#fabric.retainClass(flowClass);
    this.#arriving.push(order, 0, 0, job, 0);
    this.#requestDispatch();
  }

  #requestDispatch(): void {
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    this.#simulator.schedule(this.#simulator.timeNs, this.#dispatchKind);
  }

  #dispatch(): void {
    this.#isDispatching = false;
    for (let slot = this.#arriving.pop(); slot >= 0; slot = this.#arriving.pop()) {
      this.#waiting.push(this.#simulator.timeNs, 0, 0, this.#arriving.a[slot], 0);
    }
    if (this.#isBusy) return;
    const slot = this.#waiting.pop();
    if (slot < 0) return;
    const job = this.#waiting.a[slot];
    const { data } = this.#jobs;
    this.#isBusy = true;
    this.#startedNs = this.#simulator.timeNs;
    this.#fabric.start(data.flowClass[job], data.amount[job], data.fixedNs[job], this.#endKind, job);
    this.#fabric.releaseClass(data.flowClass[job]);
  }

  #end(job: number): void {
    const { data } = this.#jobs;
    this.#isBusy = false;
    this.#busyNs += this.#simulator.timeNs - this.#startedNs;
    this.#freeJobs.push(job);
    this.#simulator.schedule(this.#simulator.timeNs, data.doneKind[job], data.payload[job], data.amount[job]);
    this.#requestDispatch();
  }
}

/** An idle engine; `name` appears in error messages. */
export const createCopyEngine = (simulator: Simulator, fabric: Fabric, name: string): CopyEngine =>
  new CopyEngine(simulator, fabric, name);
