/**
 * From times and bytes to an OperationCost: a fixed part, then a flow that takes bytes from shared resources.
 * Promise: a flow alone never exceeds a resource's capacity, so its solo time is what the fabric gives it.
 */
import type { Machine } from './cost-machine.ts';
import type { Demand, OperationCost, ResourceName } from './operation-cost.ts';
import { isProcessor } from './shared-resources.ts';
import type { Trust } from './trust.ts';

/** Bytes that a flow takes from each resource over its whole life, in the resource's own (read) capacity. */
export type ResourceBytes = Readonly<Partial<Record<ResourceName, number>>>;

/** A limit of a flow: how long it would take if it were the only one, and what people call it. */
export interface Bound {
  readonly label: string;
  readonly ns: number;
}

export interface Work {
  readonly fixedNs: number;
  /** Size of the flow in its own unit: payload bytes, or flops. */
  readonly amount: number;
  readonly bounds: readonly Bound[];
  readonly takes: ResourceBytes;
  readonly trust: Trust;
  /** Whether sizes lie inside what the law was fitted on. */
  readonly inDomain: boolean;
  /**
   * CPU time of the launches, ns: what the GPU's own work does not hide adds to the fixed part, unless the stack
   * launches ahead.
   */
  readonly hostNs?: number;
  /** Time over what fixedNs and bounds say, from a table of utilisation; default 1. */
  readonly timeRatio?: number;
  /** Bounds wider than the law's own error, as ratios; default [1, 1]. */
  readonly widen?: readonly [number, number];
  /** Cores that it keeps busy on a processor; default all. */
  readonly cores?: number;
}

/** Beyond what a law was fitted on, its error is taken to be this much larger. */
const EXTRAPOLATION = 1.5;

const intervalOf = ({ trust, inDomain, widen = [1, 1] }: Work): readonly [number, number] => {
  const error = trust.errorRatio * (inDomain ? 1 : EXTRAPOLATION);
  return [Math.min(1, widen[0]) / (1 + error), Math.max(1, widen[1]) * (1 + error)];
};

/** On a processor, hbm and dram are one memory, so what is taken of either is taken of both. */
const takenOf = ({ link }: Machine, takes: ResourceBytes): ResourceBytes =>
  isProcessor(link) ? { ...takes, hbm: (takes.hbm ?? 0) + (takes.dram ?? 0) } : takes;

/** What a flow of `amount` that takes `ns` alone demands of each resource, a unit of the amount. */
const demandsOf = (
  { resources, sms }: Machine,
  amount: number,
  ns: number,
  taken: ResourceBytes,
  cores: number = sms,
): readonly Demand[] => {
  const demands: Demand[] = [];
  for (const { name } of resources) {
    const bytes = name === 'cores' ? ns * Math.min(sms, cores) : (taken[name] ?? 0);
    const bytesPerAmount = bytes / amount;
    if (bytesPerAmount > 0) demands.push({ resource: name, bytesPerAmount });
  }
  return demands;
};

/** The slowest of a work's bounds, and of what resources allow. */
const slowestOf = (
  { resources }: Machine,
  bounds: readonly Bound[],
  timeRatio: number,
  taken: ResourceBytes,
): Bound => {
  let ns = 0;
  let label = 'latency';
  for (const bound of bounds) {
    const ownNs = bound.ns * timeRatio;
    if (ownNs > ns) [ns, label] = [ownNs, bound.label];
  }
  for (const resource of resources) {
    const takenNs = (taken[resource.name] ?? 0) / resource.rateBytesPerNs;
    if (takenNs > ns) [ns, label] = [takenNs, resource.label];
  }
  return { ns, label };
};

/** The cost of a piece of work: its slowest bound rules; ties go to the first. */
export const toCost = (machine: Machine, work: Work): OperationCost => {
  const { timeRatio = 1 } = work;
  const taken = takenOf(machine, work.takes);
  const slowest = slowestOf(machine, work.bounds, timeRatio, taken);
  const amount = slowest.ns > 0 ? work.amount : 0;
  // A table scales the time of the whole. What it takes off (or adds to) a flow that a resource holds up comes off the
  // start instead: the two overlapped.
  const ownNs =
    timeRatio === 1
      ? work.fixedNs
      : Math.max(0, timeRatio * (work.fixedNs + slowestOf(machine, work.bounds, 1, taken).ns) - slowest.ns);
  const { hostNs = 0 } = work;
  const ahead = machine.launch.ahead === true && hostNs > 0;
  const fixedNs = ahead ? ownNs : Math.max(ownNs, hostNs - slowest.ns);
  const soloRatePerNs = amount > 0 ? amount / slowest.ns : 1;
  const label = fixedNs > slowest.ns ? (fixedNs > ownNs ? 'launch' : 'latency') : slowest.label;
  return {
    fixedNs,
    amount,
    soloRatePerNs,
    demands: amount > 0 ? demandsOf(machine, amount, slowest.ns, taken, work.cores) : [],
    // Threads get equal time, so whatever runs on the cores slows down alike.
    ...(isProcessor(machine.link) ? { weight: soloRatePerNs } : {}),
    ...(ahead ? { hostNs } : {}),
    boundBy: amount > 0 ? slowest.label : label,
    intervalRatio: intervalOf(work),
    domain: work.trust.anchored && work.inDomain ? 'calibrated' : 'extrapolated',
  };
};

/** Two costs that hide each other in part: each alone, and less than their sum where they are alike. */
export const overlapped = (a: number, b: number): number => Math.sqrt(a * a + b * b);

/** Read-capacity bytes of HBM for bytes read and written. */
export const hbmBytes = (machine: Machine, readBytes: number, writeBytes: number): number =>
  readBytes + writeBytes * machine.hbm.writeWeight;

/** Read-capacity bytes of host memory for bytes read and written. */
export const dramBytes = (machine: Machine, readBytes: number, writeBytes: number): number =>
  readBytes + writeBytes * machine.dram.writeWeight;

/** Start of a small kernel that no fitted law covers: its launch and two dependent reads of memory. */
export const kernelStartNs = (machine: Machine): number =>
  machine.launch.kernelNs + 2 * machine.hbm.latencyNs;

/** Roofline work without a law of its own rests on measured rates, but not on measured kernels: its error is wide. */
export const ROOFLINE_TRUST: Trust = { errorRatio: 0.5, anchored: false };
