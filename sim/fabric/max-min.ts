/**
 * Weighted max-min rates by progressive filling (Bertsekas & Gallager, Data Networks, §6.5.2), over classes of equal
 * flows with vector demands: every rate rises as weight·level until its own cap or a full resource stops it.
 * Promise: no resource is exceeded (beyond rounding), and no rate can rise without lowering one that is, per weight,
 * no larger. O(K·(K + R)) for K classes and R resources; no allocation.
 */

/** Classes as columns; `demand` is row-major [classes, resources], bytes per unit of amount. */
export interface ClassColumns {
  /** Flows in the class; classes without flows are not in `active`. */
  readonly members: Float64Array;
  readonly weight: Float64Array;
  /** Largest rate of one flow, units of amount per ns; Infinity only where a demand bounds it. */
  readonly capPerNs: Float64Array;
  readonly demand: Float64Array;
  /** Out: rate of each flow of the class, units of amount per ns. */
  readonly ratePerNs: Float64Array;
  /** Out: what stopped the class: a resource, or -1 for its own cap. */
  readonly limit: Int32Array;
}

/** Working space for `resources` resources. */
export class Filling {
  readonly residual: Float64Array;
  readonly load: Float64Array;
  readonly users: Int32Array;
  readonly isFull: Uint8Array;

  constructor(resources: number) {
    this.residual = new Float64Array(resources);
    this.load = new Float64Array(resources);
    this.users = new Int32Array(resources);
    this.isFull = new Uint8Array(resources);
  }
}

/** Levels closer than this are one level: rounding must not split classes that stop together. */
const SAME_LEVEL = 1 + 1e-12;

/** Sets ratePerNs and limit of the `count` classes listed in `active`. */
export const fillRates = (
  classes: ClassColumns,
  active: Int32Array,
  count: number,
  rateBytesPerNs: Float64Array,
  filling: Filling,
): void => {
  openAll(classes, active, count, rateBytesPerNs, filling);
  const { weight, capPerNs, ratePerNs } = classes;
  let open = count;
  while (open > 0) {
    let level = Number.POSITIVE_INFINITY;
    for (let r = 0; r < rateBytesPerNs.length; r++) {
      if (filling.users[r] > 0) level = Math.min(level, filling.residual[r] / filling.load[r]);
    }
    for (let i = 0; i < count; i++) {
      const c = active[i];
      if (ratePerNs[c] < 0) level = Math.min(level, capPerNs[c] / weight[c]);
    }
    const edge = level * SAME_LEVEL;
    for (let r = 0; r < rateBytesPerNs.length; r++) {
      filling.isFull[r] = filling.users[r] > 0 && filling.residual[r] / filling.load[r] <= edge ? 1 : 0;
    }
    for (let i = 0; i < count; i++) {
      if (ratePerNs[active[i]] < 0 && stopIfBound(classes, active[i], level, edge, filling)) open--;
    }
  }
};

/** All classes rising (rate -1), all resources empty. */
const openAll = (
  classes: ClassColumns,
  active: Int32Array,
  count: number,
  rateBytesPerNs: Float64Array,
  filling: Filling,
): void => {
  const resources = rateBytesPerNs.length;
  for (let r = 0; r < resources; r++) {
    filling.residual[r] = rateBytesPerNs[r];
    filling.load[r] = 0;
    filling.users[r] = 0;
  }
  for (let i = 0; i < count; i++) {
    const c = active[i];
    classes.ratePerNs[c] = -1;
    const perLevel = classes.members[c] * classes.weight[c];
    for (let r = 0; r < resources; r++) {
      const demand = classes.demand[c * resources + r];
      if (demand > 0) {
        filling.load[r] += demand * perLevel;
        filling.users[r]++;
      }
    }
  }
};

/** Fixes the rate of class c if its cap or a full resource stops it at this level, and takes its share out. */
const stopIfBound = (
  classes: ClassColumns,
  c: number,
  level: number,
  edge: number,
  filling: Filling,
): boolean => {
  const resources = filling.load.length;
  const row = c * resources;
  let limit = -2;
  if (classes.capPerNs[c] <= edge * classes.weight[c]) limit = -1;
  for (let r = 0; r < resources && limit === -2; r++) {
    if (filling.isFull[r] === 1 && classes.demand[row + r] > 0) limit = r;
  }
  if (limit === -2) return false;
  const rate = limit === -1 ? classes.capPerNs[c] : level * classes.weight[c];
  classes.ratePerNs[c] = rate;
  classes.limit[c] = limit;
  for (let r = 0; r < resources; r++) {
    const demand = classes.demand[row + r] * classes.members[c];
    if (demand > 0) {
      // Rounding may leave a full resource a hair below nothing.
      filling.residual[r] = Math.max(0, filling.residual[r] - demand * rate);
      filling.load[r] -= demand * classes.weight[c];
      filling.users[r]--;
    }
  }
  return true;
};
