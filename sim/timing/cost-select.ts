/**
 * Top-k selection: rows shared by groups of multiprocessors, rows of a block each, and small counts by a kernel of their
 * own.
 */
import type { SelectOperation } from '../program/operation.ts';
import { toCost } from './cost-flow.ts';
import { streamedCost } from './cost-kernels.ts';
import type { Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import { overflowSwept, selectBlocks } from './select-blocks.ts';
import { selectSizes } from './sizes.ts';
import { type KernelLaw, rampNsOf } from './trust.ts';
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

interface Spread {
  readonly fixedNs: number;
  readonly flowNs: number;
}

/** A row split over the SMs that it gets: every pass scans the keys, the first one in HBM (at its rate), later ones in L2. */
const evenSpread = ({ select, hbm, sms }: Machine, { rows, of }: SelectOperation): Spread => {
  const rowBytes = of * KEY_BYTES;
  const total = rows * rowBytes;
  const sliceBytes = Math.max(Math.min(rowBytes, SELECT_SLICE_BYTES), total / sms);
  const scanNs = sliceBytes / select.smBytesPerNs;
  return {
    fixedNs: select.startNs + select.passes * select.passNs,
    flowNs: (select.passes - 1) * scanNs + Math.max(scanNs, total / hbm.readBytesPerNs),
  };
};

/** Time that sweeps over keys take after the first: what the last cache does not keep is read from memory each time. */
const againNs = ({ select, hbm }: Machine, bytes: number, sweeps: number): number =>
  (sweeps * Math.max(0, bytes - select.keptBytes)) / hbm.readBytesPerNs;

/** Blocks that take turns; each sweeps its keys, or lists those above the bound that its groups' maxima give. */
const blockSpread = (machine: Machine, operation: SelectOperation, clusters: readonly number[]): Spread => {
  const { select, hbm } = machine;
  const blocks = selectBlocks(operation, clusters);
  const { turns, few, overflows, shared } = blocks;
  const sweeps = select.passes * (overflows ? 2 : 1);
  const scanned = select.passes * (blocks.swept + (overflows ? overflowSwept(blocks) : 0)) + blocks.slice;
  const fixedNs = sweeps * select.passNs + (few ? select.listNs : 0) + (shared ? select.joinNs : 0);
  const total = operation.rows * operation.of * KEY_BYTES;
  // All keys are read once more for the list; maxima of groups are swept without them, unless those left are too many.
  const again = 1 + (few && !overflows ? 0 : select.passes);
  return {
    fixedNs: select.startNs + turns * fixedNs,
    flowNs:
      Math.max((turns * scanned * KEY_BYTES) / select.smBytesPerNs, total / hbm.readBytesPerNs) +
      againNs(machine, total, again),
  };
};

/** Small counts: blocks that take turns sweep them in one digit. */
const countCost = (
  machine: Machine,
  operation: SelectOperation,
  clusters: readonly number[],
): OperationCost => {
  const { select, launch, tiling } = machine;
  const law = machine.kernels[COUNT_SELECT];
  const { turns, swept } = selectBlocks(operation, clusters);
  const bytes = turns * swept * COUNT_BYTES;
  const total = operation.rows * operation.of * COUNT_BYTES;
  return toCost(machine, {
    fixedNs: law.startNs + rampNsOf(law, bytes) + launch.extraNs,
    amount: total,
    bounds: [
      {
        label: 'compute',
        ns: bytes / (select.smBytesPerNs * law.rateRatio) + againNs(machine, total, 1),
      },
    ],
    takes: { hbm: total },
    trust: law,
    timeRatio: timeRatioOf(machine.utilisation[COUNT_SELECT], selectSizes(operation, tiling)),
    inDomain: operation.of <= 1_048_576,
    hostNs: launch.hostNs,
  });
};

/** Top-k by radix select. */
export const selectCost = (machine: Machine, operation: SelectOperation): OperationCost => {
  const { rows, of, k, keys } = operation;
  const { select, launch, tiling } = machine;
  const byRow = `select.${keys}`;
  if (Object.hasOwn(machine.kernels, byRow)) return rowByRowCost(machine, operation, machine.kernels[byRow]);
  const { selectClusters } = tiling;
  if (keys === 'counts' && Object.hasOwn(machine.kernels, COUNT_SELECT)) {
    if (selectClusters !== null) return countCost(machine, operation, selectClusters);
    return streamedCost(machine, {
      readBytes: rows * of * COUNT_BYTES,
      writeBytes: rows * k * KEY_BYTES,
      flops: 0,
      kernels: 1,
      names: [COUNT_SELECT],
      sizes: selectSizes(operation, tiling),
    });
  }
  const { fixedNs, flowNs } =
    selectClusters === null
      ? evenSpread(machine, operation)
      : blockSpread(machine, operation, selectClusters);
  const total = rows * of * KEY_BYTES;
  return toCost(machine, {
    fixedNs: fixedNs * select.timeRatio + launch.extraNs,
    amount: total,
    bounds: [{ label: 'compute', ns: flowNs * select.timeRatio }],
    takes: { hbm: total },
    trust: select,
    timeRatio: timeRatioOf(machine.utilisation.select, selectSizes(operation, tiling)),
    inDomain: rows <= 256 && of >= 1024 && of <= 1_048_576,
    hostNs: launch.hostNs,
  });
};
