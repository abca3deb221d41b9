/**
 * Weighted max-min rates by progressive filling (Bertsekas & Gallager, Data Networks, §6.5.2), over classes of equal
 * flows with vector demands: every rate rises as weight·level until its own cap or a full resource stops it.
 * Promise: no resource is exceeded (beyond rounding), and no rate can rise without lowering one that is, per weight,
 * no larger. O(K·R) a round for K classes and R resources, a round for each level at which something stops; no
 * allocation.
 */
import { invariant } from '../error.ts';

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
  /** Out: bytes per ns that all flows together take from each resource. */
  readonly used: Float64Array;
  readonly residual: Float64Array;
  readonly load: Float64Array;
  readonly users: Int32Array;
  readonly isFull: Uint8Array;

  constructor(resources: number) {
    this.used = new Float64Array(resources);
    this.residual = new Float64Array(resources);
    this.load = new Float64Array(resources);
    this.users = new Int32Array(resources);
    this.isFull = new Uint8Array(resources);
  }
}

/** Levels closer than this are one level: rounding must not split classes that stop together. */
const SAME_LEVEL = 1 + 1e-12;
/** Rate of a class that still rises. */
const OPEN = -1;
const OWN_CAP = -1;
const STILL_OPEN = -2;

/** Sets ratePerNs and limit of the `count` classes listed in `active`, and the resources' `used` bytes per ns. */
export const fillRates = (
  classes: ClassColumns,
  active: Int32Array,
  count: number,
  rateBytesPerNs: Float64Array,
  filling: Filling,
): void => {
  const { residual, load, users, isFull } = filling;
  for (let i = 0; i < count; i++) classes.ratePerNs[active[i]] = OPEN;
  residual.set(rateBytesPerNs);
  filling.used.fill(0);
  let open = count;
  while (open > 0) {
    let level = addOpen(classes, active, count, filling);
    for (let r = 0; r < users.length; r++) {
      if (users[r] > 0) level = Math.min(level, residual[r] / load[r]);
    }
    const edge = level * SAME_LEVEL;
    for (let r = 0; r < users.length; r++) isFull[r] = users[r] > 0 && residual[r] <= edge * load[r] ? 1 : 0;
    const before = open;
    for (let i = 0; i < count; i++) {
      if (classes.ratePerNs[active[i]] < 0 && stopIfBound(classes, active[i], level, edge, filling)) open--;
    }
    invariant(open < before, `progressive filling stopped nothing at level ${level}`);
  }
};

/**
 * Bytes per level and users of each resource over the classes that still rise; the lowest level at which one of them
 * meets its cap. Summed anew in every round: taking shares out again would leave rounding where weights differ much.
 */
const addOpen = (classes: ClassColumns, active: Int32Array, count: number, filling: Filling): number => {
  const { members, weight, capPerNs, demand, ratePerNs } = classes;
  const { load, users } = filling;
  const resources = load.length;
  load.fill(0);
  users.fill(0);
  let capLevel = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const c = active[i];
    if (ratePerNs[c] >= 0) continue;
    capLevel = Math.min(capLevel, capPerNs[c] / weight[c]);
    const perLevel = members[c] * weight[c];
    for (let r = 0, at = c * resources; r < resources; r++, at++) {
      if (demand[at] > 0) {
        load[r] += demand[at] * perLevel;
        users[r]++;
      }
    }
  }
  return capLevel;
};

/** Fixes the rate of class c if its cap or a full resource stops it at this level, and takes its share out. */
const stopIfBound = (
  classes: ClassColumns,
  c: number,
  level: number,
  edge: number,
  filling: Filling,
): boolean => {
  const { weight, capPerNs, demand } = classes;
  const { residual, used, isFull } = filling;
  const resources = used.length;
  const row = c * resources;
  let limit = STILL_OPEN;
  if (capPerNs[c] <= edge * weight[c]) limit = OWN_CAP;
  for (let r = 0; r < resources && limit === STILL_OPEN; r++) {
    if (isFull[r] === 1 && demand[row + r] > 0) limit = r;
  }
  if (limit === STILL_OPEN) return false;
  const rate = limit === OWN_CAP ? capPerNs[c] : level * weight[c];
  classes.ratePerNs[c] = rate;
  classes.limit[c] = limit;
  for (let r = 0; r < resources; r++) {
    const taken = demand[row + r] * classes.members[c] * rate;
    if (taken > 0) {
      used[r] += taken;
      // Rounding may leave a full resource a hair below nothing.
      residual[r] = Math.max(0, residual[r] - taken);
    }
  }
  return true;
};
