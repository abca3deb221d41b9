/**
 * Top-k selection: rows shared by groups of multiprocessors, rows of a block each, and small counts by a kernel of their
 * own.
 */
import type { SelectOperation } from '../program/operation.ts';
import { toCost } from './cost-flow.ts';
import { streamedCost } from './cost-kernels.ts';
import type { Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import { selectSizes } from './sizes.ts';
import type { KernelLaw } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';

/** Keys of a row that one group of SMs takes before a second group joins, bytes. */
const SELECT_SLICE_BYTES = 16_384;
const KEY_BYTES = 4;
/** The kernel that selects by small counts, and the bytes of one. */
const COUNT_SELECT = 'paris-select';
const COUNT_BYTES = 2;

/** A top-k that gives each row one block: rows side by side cost nothing while SMs are left, long rows all the more. */
const rowByRowCost = (machine: Machine, { rows, of }: SelectOperation, law: KernelLaw): OperationCost => {
  const { select, launch, sms } = machine;
  const rowBytes = of * KEY_BYTES;
  const waves = Math.max(1, rows / sms);
  return toCost(machine, {
    fixedNs: law.startNs + launch.extraNs,
    amount: rows * rowBytes,
    bounds: [{ label: 'compute', ns: (waves * rowBytes) / (select.smBytesPerNs * law.rateRatio) }],
    takes: { hbm: rows * rowBytes },
    trust: law,
    inDomain: of >= 1024 && of <= 1_048_576,
    hostNs: launch.hostNs,
  });
};

/**
 * Top-k by radix select: every pass scans the keys, and a row is split over the SMs that it gets. The first pass reads
 * HBM (at its rate), later ones L2.
 */
export const selectCost = (machine: Machine, operation: SelectOperation): OperationCost => {
  const { rows, of, k, keys } = operation;
  const { select, hbm, launch, sms } = machine;
  const byRow = `select.${keys}`;
  if (Object.hasOwn(machine.kernels, byRow)) return rowByRowCost(machine, operation, machine.kernels[byRow]);
  if (keys === 'counts' && Object.hasOwn(machine.kernels, COUNT_SELECT))
    return streamedCost(machine, {
      readBytes: rows * of * COUNT_BYTES,
      writeBytes: rows * k * KEY_BYTES,
      flops: 0,
      kernels: 1,
      names: [COUNT_SELECT],
      sizes: selectSizes(operation, machine.tiling),
    });
  const rowBytes = of * KEY_BYTES;
  const total = rows * rowBytes;
  const sliceBytes = Math.max(Math.min(rowBytes, SELECT_SLICE_BYTES), total / sms);
  const scanNs = sliceBytes / select.smBytesPerNs;
  const flowNs = (select.passes - 1) * scanNs + Math.max(scanNs, total / hbm.readBytesPerNs);
  return toCost(machine, {
    fixedNs: (select.startNs + select.passes * select.passNs) * select.timeRatio + launch.extraNs,
    amount: total,
    bounds: [{ label: 'compute', ns: flowNs * select.timeRatio }],
    takes: { hbm: total },
    trust: select,
    timeRatio: timeRatioOf(machine.utilisation.select, selectSizes(operation, machine.tiling)),
    inDomain: rows <= 256 && of >= 1024 && of <= 1_048_576,
    hostNs: launch.hostNs,
  });
};
