/**
 * The floor of a step: the time that its program needs when the resource that it uses most does nothing else and reaches
 * its measured ceiling, everything else hidden behind it. Launches are no part of it; they are stated beside it.
 */
import type { Operation } from '../../sim/program/operation.ts';
import type { Machine } from '../../sim/timing/cost.ts';
import { programBytes } from '../execute/program-bytes.ts';

/** What has a ceiling: device memory, the host link by direction, host memory as the CPU reads it, arithmetic of the GPU. */
export const CEILINGS = ['hbm', 'h2d', 'd2h', 'dram', 'matrix', 'vector'] as const;
export type Ceiling = (typeof CEILINGS)[number];

export interface StepFloor {
  readonly floorNs: number;
  /** Which ceiling it is. */
  readonly bound: Ceiling;
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
  return needs;
};

/** Rates per ns that the machine was measured to reach. */
const ratesOf = ({ hbm, link, dram, flopsPerNs }: Machine): PerCeiling => ({
  hbm: hbm.readBytesPerNs,
  h2d: link.h2d.bytesPerNs,
  d2h: link.d2h.bytesPerNs,
  dram: dram.readBytesPerNs,
  matrix: flopsPerNs.bf16,
  vector: flopsPerNs.fp32,
});

const timesOf = (operations: readonly Operation[], machine: Machine): PerCeiling => {
  const rates = ratesOf(machine);
  const times: PerCeiling = { hbm: 0, h2d: 0, d2h: 0, dram: 0, matrix: 0, vector: 0 };
  for (const operation of operations) {
    const needs = needsOf(operation);
    for (const name of CEILINGS) times[name] += needs[name] / rates[name];
  }
  return times;
};

/** The floor of some operations that nothing keeps apart. */
export const floorNsOf = (operations: readonly Operation[], machine: Machine): number =>
  Math.max(...Object.values(timesOf(operations, machine)));

/** The floor of a step of `calls` calls. */
export const stepFloor = (operations: readonly Operation[], machine: Machine, calls: number): StepFloor => {
  const times = timesOf(operations, machine);
  const bound = CEILINGS.reduce((most, name) => (times[name] > times[most] ? name : most));
  return { floorNs: times[bound], bound, launchNs: calls * machine.launch.kernelNs };
};
