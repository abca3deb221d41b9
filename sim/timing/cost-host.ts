/**
 * Kernels on host threads: the threads are woken, then read what they compute on. Rows scattered over host memory cost a
 * thread the time of a row and of its bytes, whether they are gathered or attended to; all threads together get no more
 * than the memory gives them, and compute at their own rate meanwhile.
 */
import { dramBytes, ROOFLINE_TRUST, toCost } from './cost-flow.ts';
import type { Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import type { KernelLaw } from './trust.ts';

/** Time in which the threads share rows of `rowBytes` that lie anywhere in host memory, ns. */
export const scatteredRowsNs = ({ cpu }: Machine, rows: number, rowBytes: number): number =>
  (rows * (cpu.rowNs + rowBytes / cpu.threadBytesPerNs)) / Math.min(cpu.threads, Math.max(1, rows));

export interface HostWork {
  /** Names of the measured kernel that does it; the first that the stack knows rules. */
  readonly names: readonly string[];
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly flops: number;
  /** Bytes of a row where what is read lies scattered. */
  readonly rowBytes?: number;
}

const lawOf = (machine: Machine, names: readonly string[]): KernelLaw => {
  const measured = names.find((name) => Object.hasOwn(machine.hostKernels, name));
  if (measured !== undefined) return machine.hostKernels[measured];
  const startNs = machine.cpu.startNs + machine.dram.latencyNs;
  return { ...ROOFLINE_TRUST, startNs, rampNs: 0, rampBytes: 1, rateRatio: 1, flopsRatio: 1, matrixRatio: 1 };
};

export const hostCost = (machine: Machine, work: HostWork): OperationCost => {
  const { names, readBytes, writeBytes, flops, rowBytes } = work;
  const law = lawOf(machine, names);
  const bytes = dramBytes(machine, readBytes, writeBytes);
  const rowsNs = rowBytes === undefined ? 0 : scatteredRowsNs(machine, readBytes / rowBytes, rowBytes);
  const memoryNs = Math.max(bytes / machine.cpu.readBytesPerNs, rowsNs) / law.rateRatio;
  const computeNs = flops / machine.cpu.flopsPerNs / law.flopsRatio;
  return toCost(machine, {
    fixedNs: law.startNs,
    amount: bytes > 0 ? bytes : flops,
    bounds: [{ label: 'cpu', ns: Math.max(memoryNs, computeNs) }],
    takes: { dram: bytes },
    trust: law,
    inDomain: true,
  });
};
