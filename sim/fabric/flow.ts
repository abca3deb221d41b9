/**
 * Flows that share resources. Flows with equal demands, weight and cap form a class and always run at one rate, so a
 * class needs one virtual clock (amount served to each member) and one heap of finish tags (clock at start + amount).
 * Rates are weighted max-min (max-min.ts), set anew once an instant, after everything else that happens then:
 * O(K·R + log n) a round of filling for K classes, whatever the number of flows. Every event completes a flow or follows a change,
 * so rounding can neither lose a flow nor spin. Virtual clocks after Demers, Keshav & Shenker, SIGCOMM '89.
 */

import { createColumns } from '../engine/columns.ts';
import { type EventHandle, PHASE_SETTLE } from '../engine/queue.ts';
import type { Simulator } from '../engine/simulator.ts';
import { invariant, SimError } from '../error.ts';
import { ClassTable, type FlowClassSpec } from './flow-class.ts';
import { Filling, fillRates } from './max-min.ts';
import { type ResourceSpec, Resources } from './resource.ts';

/** Completions closer than this part of the clock (a few of its last bits) are one instant. */
const SAME_INSTANT = 2 ** -50;
/** A virtual clock this many times beyond the largest amount starts again near 0, to keep its precision. */
const REBASE_FACTOR = 2 ** 20;
const NO_EVENT = -1;

export class Fabric {
  readonly #simulator: Simulator;
  readonly #resources: Resources;
  readonly #classes: ClassTable;
  readonly #filling: Filling;
  /** Flows that wait out their latency, by slot. */
  readonly #latent = createColumns({ flowClass: 'i32', amount: 'f64', doneKind: 'i32', payload: 'f64' });
  readonly #freeLatent: number[] = [];
  readonly #joinKind: number;
  readonly #completeKind: number;
  readonly #settleKind: number;
  #advancedNs: number;
  #completion: EventHandle = NO_EVENT;
  #isSettling = false;
  #flows = 0;

  constructor(simulator: Simulator, resources: readonly ResourceSpec[]) {
    this.#simulator = simulator;
    this.#resources = new Resources(resources);
    this.#classes = new ClassTable(resources.length);
    this.#filling = new Filling(resources.length);
    this.#advancedNs = simulator.timeNs;
    this.#joinKind = simulator.addHandler('flow joins', (slot) => this.#join(slot));
    this.#completeKind = simulator.addHandler('flow completes', () => this.#complete());
    this.#settleKind = simulator.addHandler('fabric settles', () => this.#settle(), PHASE_SETTLE);
  }

  /** Position of a resource by name; throws `unknown-name`. */
  resourceIndex(name: string): number {
    return this.#resources.index(name);
  }

  /** Flows that share now; those still in their latency are not among them. */
  get flows(): number {
    return this.#flows;
  }

  /**
   * The class of flows with these demands, weight and cap, valid until releaseClass() was called as often as this.
   * Hot loops hold a class and call start(); others call startFlow().
   */
  holdClass(spec: FlowClassSpec): number {
    return this.#classes.hold(spec, this.#resources.names);
  }

  /** Holds a class once more, by its number. */
  retainClass(flowClass: number): void {
    this.#classes.retain(flowClass);
  }

  releaseClass(flowClass: number): void {
    this.#classes.release(flowClass);
  }

  /**
   * Starts a flow of `amount` >= 0 units after `latencyNs` >= 0 in which it takes no part in sharing. When it is done,
   * the simulator's handler `doneKind` runs with (payload, amount). An amount of 0 is done right after the latency.
   */
  start(flowClass: number, amount: number, latencyNs: number, doneKind: number, payload: number): void {
    if (!(amount >= 0 && amount < Number.POSITIVE_INFINITY && latencyNs >= 0)) {
      throw new SimError(
        'invalid-input',
        `flow at ${this.#simulator.timeNs} ns: expected amount >= 0 and latencyNs >= 0, got ${amount} and ${latencyNs}`,
      );
    }
    if (amount === 0) {
      this.#simulator.schedule(this.#simulator.timeNs + latencyNs, doneKind, payload, 0);
      return;
    }
    this.#classes.retain(flowClass);
    if (latencyNs === 0) {
      this.#share(flowClass, amount, doneKind, payload);
      return;
    }
    const slot = this.#freeLatent.pop() ?? this.#latent.add();
    const { data } = this.#latent;
    data.flowClass[slot] = flowClass;
    data.amount[slot] = amount;
    data.doneKind[slot] = doneKind;
    data.payload[slot] = payload;
    this.#simulator.schedule(this.#simulator.timeNs + latencyNs, this.#joinKind, slot);
  }

  /** start() for a flow whose class nobody holds. */
  startFlow(spec: FlowClassSpec, amount: number, latencyNs: number, doneKind: number, payload: number): void {
    const flowClass = this.holdClass(spec);
    try {
      this.start(flowClass, amount, latencyNs, doneKind, payload);
    } finally {
      this.releaseClass(flowClass);
    }
  }

  /** Changes a resource's capacity from now on. Throws on a negative or infinite rate. */
  setRate(resource: number, rateBytesPerNs: number): void {
    this.#advance();
    this.#resources.setRate(resource, rateBytesPerNs);
    this.#requestSettle();
  }

  rateBytesPerNs(resource: number): number {
    return this.#resources.rateBytesPerNs[resource];
  }

  /** Bytes per ns that run over the resource now; set when the present instant has settled. */
  loadBytesPerNs(resource: number): number {
    return this.#resources.loadBytesPerNs[resource];
  }

  /** Bytes carried up to now. */
  usedBytes(resource: number): number {
    this.#advance();
    return this.#resources.usedBytes[resource];
  }

  /** Time up to now in which the resource carried anything, ns. */
  busyNs(resource: number): number {
    this.#advance();
    return this.#resources.busyNs[resource];
  }

  /** Rate of each flow of a class, units of amount per ns; 0 for a class without flows. */
  ratePerNs(flowClass: number): number {
    return this.#classes.members[flowClass] > 0 ? this.#classes.ratePerNs[flowClass] : 0;
  }

  /** What limits the flows of a class: a resource's position, or -1 for their own cap. */
  limit(flowClass: number): number {
    return this.#classes.limit[flowClass];
  }

  #join(slot: number): void {
    const { data } = this.#latent;
    this.#freeLatent.push(slot);
    this.#share(data.flowClass[slot], data.amount[slot], data.doneKind[slot], data.payload[slot]);
  }

  #share(flowClass: number, amount: number, doneKind: number, payload: number): void {
    this.#advance();
    this.#classes.join(flowClass, amount, doneKind, payload);
    this.#flows++;
    this.#requestSettle();
  }

  #requestSettle(): void {
    if (this.#isSettling) return;
    this.#isSettling = true;
    this.#simulator.schedule(this.#simulator.timeNs, this.#settleKind);
  }

  /** Moves virtual clocks and ledgers up to the simulator's clock at the present rates. */
  #advance(): void {
    const forNs = this.#simulator.timeNs - this.#advancedNs;
    if (forNs === 0) return;
    const { active, virtual, ratePerNs } = this.#classes;
    for (let i = 0; i < this.#classes.activeCount; i++) virtual[active[i]] += ratePerNs[active[i]] * forNs;
    this.#resources.advance(forNs);
    this.#advancedNs = this.#simulator.timeNs;
  }

  /** Ends the flows that are due. */
  #complete(): void {
    this.#completion = NO_EVENT;
    this.#advance();
    const nowNs = this.#simulator.timeNs;
    const slackNs = nowNs * SAME_INSTANT;
    const classes = this.#classes;
    let ended = 0;
    // Backwards, because a class that empties gives its place to the last one.
    for (let i = classes.activeCount - 1; i >= 0; i--) {
      const c = classes.active[i];
      if (classes.dueNs[c] <= nowNs + slackNs) ended += this.#endDue(c, slackNs);
    }
    invariant(ended > 0, `no flow completed at its time, ${nowNs} ns`);
    this.#flows -= ended;
    this.#requestSettle();
  }

  /** Ends the first flow of class c and all that are due with it; their number. */
  #endDue(c: number, slackNs: number): number {
    const classes = this.#classes;
    const tags = classes.tags[c];
    // The first flow is due by its own event: its tag corrects the clock's rounding.
    classes.virtual[c] = Math.max(classes.virtual[c], tags.nextTimeNs);
    const reached = classes.virtual[c] + classes.ratePerNs[c] * slackNs;
    let ended = 0;
    while (tags.nextTimeNs <= reached) {
      const slot = tags.pop();
      this.#simulator.schedule(this.#simulator.timeNs, tags.kind[slot], tags.a[slot], tags.b[slot]);
      ended++;
      if (classes.leave(c)) break;
    }
    return ended;
  }

  /** Sets rates and loads anew and schedules the next completion. */
  #settle(): void {
    this.#isSettling = false;
    this.#advance();
    const classes = this.#classes;
    const { active, activeCount, virtual, largest, ratePerNs, tags, dueNs } = classes;
    fillRates(classes, active, activeCount, this.#resources.rateBytesPerNs, this.#filling);
    this.#resources.loadBytesPerNs.set(this.#filling.used);
    const nowNs = this.#simulator.timeNs;
    let nextNs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < activeCount; i++) {
      const c = active[i];
      if (virtual[c] > REBASE_FACTOR * largest[c]) classes.rebase(c);
      const left = Math.max(0, tags[c].nextTimeNs - virtual[c]);
      dueNs[c] = ratePerNs[c] > 0 ? nowNs + left / ratePerNs[c] : Number.POSITIVE_INFINITY;
      if (dueNs[c] < nextNs) nextNs = dueNs[c];
    }
    if (this.#completion !== NO_EVENT) this.#simulator.cancel(this.#completion);
    this.#completion =
      nextNs < Number.POSITIVE_INFINITY ? this.#simulator.schedule(nextNs, this.#completeKind) : NO_EVENT;
  }
}

/** A fabric over these resources on the simulator's clock. Names must differ; rates are finite and >= 0. */
export const createFabric = (simulator: Simulator, resources: readonly ResourceSpec[]): Fabric =>
  new Fabric(simulator, resources);
