/** Copies between tiers as calls: chosen rows are gathered where the policy's rows really lie, other data in one run. */
import { COPY_MODES, type Ref, ROW_MODES } from '../../kernels/calls.ts';
import type { FetchOperation, SpillOperation, TransferMode } from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import { byPosition, type FillTable, plus } from './memory.ts';
import type { FetchPlan } from './placement.ts';

type Transfer = FetchOperation | SpillOperation;

const ROW_MODE: Readonly<Partial<Record<TransferMode, (typeof ROW_MODES)[number]>>> = {
  uva: 'kernel',
  dma: 'dma',
  'dma-batch': 'batch',
  'cpu-gather': 'staged',
};

const COPY_MODE: Readonly<Partial<Record<TransferMode, (typeof COPY_MODES)[number]>>> = {
  uva: 'kernel',
  'dma-batch': 'batch',
};

const touchLink = (binding: Binding, { to }: Transfer, bytes: number): void =>
  binding.touch(to === 'hbm' ? 'h2d' : 'd2h', bytes);

/** Where a fetch of chosen tokens reads and writes. */
export interface FetchPlaces {
  /** The layer's region in host memory. */
  readonly region: Ref;
  /** Pool of the form in HBM. */
  readonly pool: Ref;
  /** Bytes of one slot in the pool, and in the region. */
  readonly slotBytes: number;
}

/** Rows in even steps over a region, where no choice says which: a cache's refill. */
export const spreadRows = (rows: number, of: number): FillTable =>
  byPosition((i) => Math.floor((i * of) / rows));

export const bindFetch = (
  binding: Binding,
  operation: FetchOperation,
  { index, rows, slotsPerRow, firstSlot, sourceSlot }: FetchPlan,
  { region, pool, slotBytes }: FetchPlaces,
): void => {
  const rowBytes = Math.round(slotsPerRow * slotBytes);
  if (rows === 0 || rowBytes === 0) return;
  const target = plus(pool, firstSlot * slotBytes);
  touchLink(binding, operation, rows * rowBytes);
  if (index === null) {
    copyRuns(binding, operation, plus(region, sourceSlot * slotBytes), target, rows, rowBytes);
    return;
  }
  const mode = ROW_MODE[operation.mode] ?? 'dma';
  const onHost = mode !== 'kernel';
  binding.add('gather', {
    refs: {
      source: region,
      index: binding.layout.numbers(onHost ? 'hostTables' : 'tables', rows, index),
      target,
      ...(mode === 'staged' ? { staging: binding.layout.shared('packing', rows * rowBytes) } : {}),
    },
    ints: {
      rows,
      rowBytes,
      sourceStride: rowBytes,
      targetStride: rowBytes,
      mode: ROW_MODES.indexOf(mode),
      units: 0,
    },
  });
};

const copyRuns = (
  binding: Binding,
  operation: Transfer,
  source: Ref,
  target: Ref,
  count: number,
  bytes: number,
): void => {
  binding.add('copy', {
    refs: { source, target },
    ints: {
      count,
      bytes,
      sourceStride: bytes,
      targetStride: bytes,
      mode: COPY_MODES.indexOf(COPY_MODE[operation.mode] ?? 'dma'),
    },
  });
};

/** Data that lies in one run at both ends: index data, what leaves HBM in one piece. */
export const bindCopy = (binding: Binding, operation: Transfer, source?: Ref, target?: Ref): void => {
  const { rows, rowBytes, from, mode } = operation;
  const bytes = Math.max(4, 4 * Math.round(rowBytes / 4));
  const far = mode === 'pageable' ? 'pageable' : 'host';
  const placed = (tier: string): Ref => binding.layout.place(tier === 'hbm' ? 'kv' : far, rows * bytes);
  touchLink(binding, operation, rows * bytes);
  copyRuns(binding, operation, source ?? placed(from), target ?? placed(operation.to), rows, bytes);
};
