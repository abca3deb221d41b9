/**
 * The table of flow classes as columns: each distinct (demands, weight, cap) that is held or has flows owns a row with
 * its virtual clock and its heap of finish tags. Rows are counted references and used again, so a long run over many
 * different operations stays small.
 */

import { EventQueue } from '../engine/queue.ts';
import { SimError } from '../error.ts';

export interface FlowDemand {
  /** Position of the resource in the fabric. */
  readonly resource: number;
  /** Bytes taken from the resource per unit of the flow's amount, >= 0. Demands on one resource add up. */
  readonly bytesPerAmount: number;
}

export interface FlowClassSpec {
  /** Largest rate of one flow, units of amount per ns, > 0; Infinity is allowed where a demand is above 0. */
  readonly capPerNs: number;
  /**
   * Share of one flow: where flows compete, rates stand as their weights. Weights carry the amount's unit: with
   * weight = capPerNs all are slowed by one ratio; with weight = 1 / bytesPerAmount all get equal bytes per ns.
   */
  readonly weight: number;
  readonly demands: readonly FlowDemand[];
}

export class ClassTable {
  members = new Float64Array(0);
  weight = new Float64Array(0);
  capPerNs = new Float64Array(0);
  demand = new Float64Array(0);
  ratePerNs = new Float64Array(0);
  limit = new Int32Array(0);
  /** Virtual clock: amount served to each member since the clock was last at 0. */
  virtual = new Float64Array(0);
  /** Largest amount since the class was last empty. */
  largest = new Float64Array(0);
  /** When the first member is done at the present rates, ns. */
  dueNs = new Float64Array(0);
  /** Members by finish tag; the queue's time is virtual, its kind, a and b are doneKind, payload and amount. */
  readonly tags: EventQueue[] = [];
  /** Classes with members, in no promised order; the first `activeCount` entries count. */
  active = new Int32Array(0);
  activeCount = 0;
  readonly #resources: number;
  #activeAt = new Int32Array(0);
  #references = new Float64Array(0);
  readonly #keys: string[] = [];
  readonly #byKey = new Map<string, number>();
  readonly #free: number[] = [];

  constructor(resources: number) {
    this.#resources = resources;
  }

  /** The row of these demands, weight and cap, with one reference more. */
  hold(spec: FlowClassSpec, resourceNames: readonly string[]): number {
    let key = `${spec.capPerNs} ${spec.weight}`;
    for (const demand of spec.demands) key += ` ${demand.resource}:${demand.bytesPerAmount}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      this.#references[known]++;
      return known;
    }
    checkSpec(spec, resourceNames);
    const c = this.#free.pop() ?? this.#addRow();
    this.weight[c] = spec.weight;
    this.capPerNs[c] = spec.capPerNs;
    this.demand.fill(0, c * this.#resources, (c + 1) * this.#resources);
    for (const { resource, bytesPerAmount } of spec.demands) {
      this.demand[c * this.#resources + resource] += bytesPerAmount;
    }
    this.#references[c] = 1;
    this.#keys[c] = key;
    this.#byKey.set(key, c);
    return c;
  }

  retain(c: number): void {
    this.#references[c]++;
  }

  release(c: number): void {
    if (!(this.#references[c] > 0))
      throw new SimError('invariant-broken', `flow class ${c} released while not held`);
    if (--this.#references[c] > 0) return;
    this.#byKey.delete(this.#keys[c]);
    this.#free.push(c);
  }

  /** Adds a flow; its reference was taken by retain(). */
  join(c: number, amount: number, doneKind: number, payload: number): void {
    if (this.members[c]++ === 0) {
      this.virtual[c] = 0;
      this.largest[c] = 0;
      this.ratePerNs[c] = 0;
      this.dueNs[c] = Number.POSITIVE_INFINITY;
      this.#activeAt[c] = this.activeCount;
      this.active[this.activeCount++] = c;
    }
    if (amount > this.largest[c]) this.largest[c] = amount;
    this.tags[c].push(this.virtual[c] + amount, 0, doneKind, payload, amount);
  }

  /** Takes a flow out; true when the class is empty now. */
  leave(c: number): boolean {
    const isEmpty = --this.members[c] === 0;
    if (isEmpty) {
      const last = this.active[--this.activeCount];
      this.active[this.#activeAt[c]] = last;
      this.#activeAt[last] = this.#activeAt[c];
    }
    this.release(c);
    return isEmpty;
  }

  /** Sets the virtual clock back to 0 and moves the tags with it. */
  rebase(c: number): void {
    this.tags[c].shift(-this.virtual[c]);
    this.virtual[c] = 0;
  }

  #addRow(): number {
    const c = this.tags.length;
    this.tags.push(new EventQueue(4));
    if (c === this.members.length) this.#grow(Math.max(8, c * 2));
    return c;
  }

  #grow(rows: number): void {
    this.members = grown(this.members, rows);
    this.weight = grown(this.weight, rows);
    this.capPerNs = grown(this.capPerNs, rows);
    this.demand = grown(this.demand, rows * this.#resources);
    this.ratePerNs = grown(this.ratePerNs, rows);
    this.virtual = grown(this.virtual, rows);
    this.largest = grown(this.largest, rows);
    this.dueNs = grown(this.dueNs, rows);
    this.#references = grown(this.#references, rows);
    this.limit = grownInts(this.limit, rows);
    this.active = grownInts(this.active, rows);
    this.#activeAt = grownInts(this.#activeAt, rows);
  }
}

const grown = (column: Float64Array, length: number): Float64Array<ArrayBuffer> => {
  const longer = new Float64Array(length);
  longer.set(column);
  return longer;
};

const grownInts = (column: Int32Array, length: number): Int32Array<ArrayBuffer> => {
  const longer = new Int32Array(length);
  longer.set(column);
  return longer;
};

const checkSpec = (spec: FlowClassSpec, resourceNames: readonly string[]): void => {
  let isBounded = spec.capPerNs < Number.POSITIVE_INFINITY;
  for (const { resource, bytesPerAmount } of spec.demands) {
    if (resourceNames[resource] === undefined) {
      throw new SimError(
        'unknown-name',
        `flow: expected a resource of 0 .. ${resourceNames.length - 1}, got ${resource}`,
      );
    }
    if (!(bytesPerAmount >= 0 && bytesPerAmount < Number.POSITIVE_INFINITY)) {
      throw new SimError(
        'invalid-input',
        `flow on ${resourceNames[resource]}: expected bytesPerAmount >= 0, got ${bytesPerAmount}`,
      );
    }
    if (bytesPerAmount > 0) isBounded = true;
  }
  if (!(spec.capPerNs > 0 && isBounded)) {
    throw new SimError(
      'invalid-input',
      `flow: expected capPerNs > 0, finite without demands, got ${spec.capPerNs}`,
    );
  }
  if (!(spec.weight > 0 && spec.weight < Number.POSITIVE_INFINITY)) {
    throw new SimError('invalid-input', `flow: expected a finite weight > 0, got ${spec.weight}`);
  }
};
