/**
 * Kernels on host threads: the threads are woken, then read what they compute on. Rows scattered over host memory cost a
 * thread the time of a row and of its bytes, whether they are gathered or attended to; all threads together get no more
 * than the memory gives them, and compute at their own rate meanwhile. Lists (of tokens that a query attends to, of keys
 * that share its code) cost a thread time each beside that of what stands in them: where they begin must have come first.
 */
import { dramBytes, ROOFLINE_TRUST, toCost } from './cost-flow.ts';
import type { Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import { type HostWork, hostSizes } from './sizes.ts';
import type { KernelLaw } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';

/** Time in which the threads share rows of `rowBytes` that lie anywhere in host memory, ns. */
export const scatteredRowsNs = ({ cpu }: Machine, rows: number, rowBytes: number): number =>
  (rows * (cpu.rowNs + rowBytes / cpu.threadBytesPerNs)) / Math.min(cpu.threads, Math.max(1, rows));

/** Name of the table of a host kernel's law. */
export const hostTableOf = (kernel: string): string => `host.${kernel}`;

const lawOf = (machine: Machine, names: readonly string[]): KernelLaw & { readonly table: string } => {
  const measured = names.find((name) => Object.hasOwn(machine.hostKernels, name));
  if (measured !== undefined) return { ...machine.hostKernels[measured], table: hostTableOf(measured) };
  const startNs = machine.cpu.startNs + machine.dram.latencyNs;
  return {
    table: '',
    ...ROOFLINE_TRUST,
    startNs,
    rowNs: 0,
    headNs: 0,
    rampNs: 0,
    rampBytes: 1,
    rateRatio: 1,
    flopsRatio: 1,
    matrixRatio: 1,
    inPasses: false,
    aloneRatio: 1,
  };
};

/**
 * What it takes to tell threads of work and to be told of its end: the least that any of their kernels begins with. What
 * one needs beyond that (sharing its work out, its first misses) it needs behind another kernel too.
 */
const toldNs = ({ hostKernels }: Machine): number =>
  Math.min(...Object.values(hostKernels).map(({ startNs }) => startNs));

/** Work of the first measured kernel of `names` that the stack knows. */
export const hostCost = (machine: Machine, names: readonly string[], work: HostWork): OperationCost => {
  const { readBytes, writeBytes, flops, rowBytes, lists = 0 } = work;
  const law = lawOf(machine, names);
  const bytes = dramBytes(machine, readBytes, writeBytes);
  const rowsNs = rowBytes === undefined ? 0 : scatteredRowsNs(machine, readBytes / rowBytes, rowBytes);
  const memoryNs = Math.max(bytes / machine.cpu.readBytesPerNs, rowsNs) / law.rateRatio;
  const listsNs = (lists * law.rowNs) / Math.min(machine.cpu.threads, Math.max(1, lists));
  const computeNs = flops / machine.cpu.flopsPerNs / law.flopsRatio;
  const cost = toCost(machine, {
    fixedNs: law.startNs,
    timeRatio: timeRatioOf(machine.utilisation[law.table], hostSizes(work)),
    amount: bytes > 0 ? bytes : flops,
    bounds: [{ label: 'cpu', ns: listsNs + Math.max(memoryNs, computeNs) }],
    takes: { dram: bytes },
    trust: law,
    inDomain: true,
  });
  return { ...cost, toldNs: toldNs(machine) };
};
