/**
 * Scattered rows within device memory, collected by a kernel; and what the last cache keeps of what kernels write. Measured
 * on an H100 and an H200 (sim/hardware/schema.ts, `gather`).
 */
import { hbmBytes, kernelStartNs, toCost } from './cost-flow.ts';
import type { Machine } from './cost-machine.ts';

import type { OperationCost } from './operation-cost.ts';
import { isProcessor } from './shared-resources.ts';
import { timeRatioOf } from './utilisation.ts';

/** A whole number of units that holds a value. */
export const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

/** Rows that an operation moves. */
export interface Shape {
  readonly rows: number;
  readonly rowBytes: number;
  readonly bytes: number;
}

/** By what share of the last cache bytes may fall short of it, or exceed it, until nothing or all of what was written leaves. */
const CACHE_EDGE = 0.15;

/**
 * Bytes that reach memory of those that kernels write after `read` others: what the last cache holds until the next such
 * kernel writes there again does not.
 */
export const uncached = ({ l2Bytes }: Machine, read: number, bytes: number): number => {
  const share = (read + bytes) / l2Bytes;
  return bytes * Math.min(1, Math.max(0, (share - 1 + CACHE_EDGE) / (2 * CACHE_EDGE)));
};

/**
 * Scattered rows within HBM: whole sectors are read, payload is written. A buffer that is used again and again stays in
 * the L2 as far as the rows that pass through it leave room; a processor writes many rows past its caches
 * (kernels/cpu/stream-copy.h).
 */
export const gatherCost = (machine: Machine, { rows, rowBytes, bytes }: Shape): OperationCost => {
  const { gather, hbm, launch, link } = machine;
  const read = rows * roundUp(rowBytes, hbm.sectorBytes);
  const written = isProcessor(link) ? bytes : uncached(machine, read, bytes);
  const flowNs = Math.max(
    read / gather.cachedBytesPerNs,
    rows * gather.rowNs + (read + written) / gather.bytesPerNs,
  );
  return toCost(machine, {
    fixedNs: gather.startNs ?? kernelStartNs(machine) + hbm.latencyNs,
    timeRatio: timeRatioOf(machine.utilisation.rows, { rows, rowBytes }),
    amount: bytes,
    bounds: [{ label: 'hbm', ns: flowNs }],
    takes: { hbm: hbmBytes(machine, read, written) },
    trust: gather,
    inDomain: rowBytes >= 64,
    hostNs: launch.hostNs,
  });
};
