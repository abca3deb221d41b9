/**
 * The floor of a step: the least time that the bytes and flops of its program can take on the machine. Each operation takes
 * those of its busiest resource at the measured ceiling, operations that depend on each other follow each other (what is
 * selected must be known before it is fetched, and fetched before it is attended), and no resource does more than it can.
 * Launches, latencies and starts of kernels are no part of it; launches are stated beside it.
 */
import type { Operation, StreamName } from '../../sim/program/operation.ts';
import type { Machine } from '../../sim/timing/cost.ts';
import { programBytes } from '../execute/program-bytes.ts';

/** What has a ceiling: device memory, the host link by direction, host memory as the CPU reads it, arithmetic of the GPU. */
const CEILINGS = ['hbm', 'h2d', 'd2h', 'dram', 'matrix', 'vector'] as const;
export type Ceiling = (typeof CEILINGS)[number];

export interface StepFloor {
  readonly floorNs: number;
  /** The ceiling that takes most of it. */
  readonly bound: Ceiling;
  /** The busiest resource alone, as if nothing depended on anything. */
  readonly busiestNs: number;
  /** Calls, each the least time from one kernel of a graph to the next. */
  readonly launchNs: number;
}

type PerCeiling = Record<Ceiling, number>;

/** Bytes and flops of an operation by what they need. */
const needsOf = (operation: Operation): PerCeiling => {
  const needs: PerCeiling = { ...programBytes([operation]), matrix: 0, vector: 0 };
  if (operation.kind === 'dense') for (const { m, n, k } of operation.gemms) needs.matrix += 2 * m * n * k;
  else if (operation.kind === 'attend' && operation.where === 'gpu') needs.matrix += operation.flops;
  else if (operation.kind === 'score' && operation.where === 'gpu') {
    needs.matrix += operation.matrixFlops ?? 0;
    needs.vector += operation.flops;
  } else if (operation.kind === 'encode' || operation.kind === 'decode') needs.vector += operation.flops;
  else if ((operation.kind === 'fetch' || operation.kind === 'spill') && operation.mode === 'cpu-gather')
    // Host threads read each row where it lies and write it to the buffer that crosses the link, or the other way round.
    needs.dram += 2 * operation.rows * operation.rowBytes;
  return needs;
};

/**
 * Rates per ns that the machine was measured to reach. Of host memory what its threads read: a machine lends a share of a
 * socket's cores, which reach less than the socket's memory gives.
 */
const ratesOf = ({ hbm, link, cpu, flopsPerNs }: Machine): PerCeiling => ({
  hbm: hbm.readBytesPerNs,
  h2d: link.h2d.bytesPerNs,
  d2h: link.d2h.bytesPerNs,
  dram: cpu.readBytesPerNs,
  matrix: flopsPerNs.bf16,
  vector: flopsPerNs.fp32,
});

const zero = (): PerCeiling => ({ hbm: 0, h2d: 0, d2h: 0, dram: 0, matrix: 0, vector: 0 });

const busiest = (times: PerCeiling): Ceiling =>
  CEILINGS.reduce((most, name) => (times[name] > times[most] ? name : most));

const timesOf = (operations: readonly Operation[], machine: Machine): PerCeiling => {
  const rates = ratesOf(machine);
  const times = zero();
  for (const operation of operations) {
    const needs = needsOf(operation);
    for (const name of CEILINGS) times[name] += needs[name] / rates[name];
  }
  return times;
};

/** The floor of some operations that nothing keeps apart. */
export const floorNsOf = (operations: readonly Operation[], machine: Machine): number =>
  Math.max(...Object.values(timesOf(operations, machine)));

/** A chain of operations that wait for each other: its end, and what it takes by ceiling. */
interface Chain {
  readonly endNs: number;
  readonly times: PerCeiling;
}

/** The longest chain: an operation waits for what it names, and for the one before it on its stream. */
const longestChain = (operations: readonly Operation[], machine: Machine): Chain => {
  let longest: Chain = { endNs: 0, times: zero() };
  const chains: Chain[] = [];
  const last = new Map<StreamName, Chain>();
  for (const operation of operations) {
    const own = timesOf([operation], machine);
    const bound = busiest(own);
    let before = last.get(operation.stream) ?? { endNs: 0, times: zero() };
    for (const id of operation.after) if (chains[id].endNs > before.endNs) before = chains[id];
    const times = { ...before.times, [bound]: before.times[bound] + own[bound] };
    const chain = { endNs: before.endNs + own[bound], times };
    chains.push(chain);
    last.set(operation.stream, chain);
    if (chain.endNs > longest.endNs) longest = chain;
  }
  return longest;
};

/** The floor of a step of `calls` calls. */
export const stepFloor = (operations: readonly Operation[], machine: Machine, calls: number): StepFloor => {
  const all = timesOf(operations, machine);
  const busiestNs = all[busiest(all)];
  const chain = longestChain(operations, machine);
  const isChain = chain.endNs > busiestNs;
  return {
    floorNs: isChain ? chain.endNs : busiestNs,
    bound: busiest(isChain ? chain.times : all),
    busiestNs,
    launchNs: calls * machine.launch.kernelNs,
  };
};
