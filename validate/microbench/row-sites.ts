/** Sites of scattered rows: read in device memory, over the link by a kernel, or gathered by host threads. */
import { type Ref, ROW_MODES } from '../../kernels/calls.ts';
import { PIECE_BYTES } from '../../sim/program/operation.ts';
import { gatherOf } from '../../sim/timing/cost-cases.ts';
import { type AreaName, plus } from '../execute/memory.ts';
import {
  ascendingRows,
  type Bounds,
  bytesBetween,
  chained,
  emptyOperation,
  repeated,
  type Site,
  scatteredRows,
  transferOf,
} from './microbench.ts';

const PASSES = 4;
/** Rows that the passes of a site choose together: enough that none is still known to the address translation. */
const ROWS_CHOSEN = 2 ** 17;

const passesOf = (rows: number): number => Math.max(PASSES, Math.min(256, Math.ceil(ROWS_CHOSEN / rows)));

interface RowCase {
  readonly rows: number;
  readonly rowBytes: number;
  readonly regionBytes: number;
  /** Bytes that hold the rows of one pass, side by side with those of the next; absent = the whole region. */
  readonly layerBytes?: number;
}

/** A kernel gathers rows: from host memory (`uva`) or within device memory. */
export const kernelRows = (tier: 'hbm' | 'dram', { rows, rowBytes, regionBytes }: RowCase): Site => {
  const passes = passesOf(rows);
  return {
    id: `${rows} x ${rowBytes} of ${regionBytes}`,
    operations: [gatherOf({ tier, mode: 'uva', rows, rowBytes, regionBytes })],
    passes,
    options: { graph: true },
    build: (layout) => {
      const area: AreaName = tier === 'hbm' ? 'kv' : 'host';
      const source = layout.place(area, regionBytes);
      const target = layout.place('kv', rows * rowBytes);
      const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode: 0, units: 0 };
      const chosen = scatteredRows(rows * passes, Math.floor(regionBytes / rowBytes), 1);
      const index = layout.table('tables', chosen);
      return repeated(
        passes,
        (pass) => ({
          kernel: 'gather',
          refs: { source, index: { ...index, offset: index.offset + 4 * rows * pass }, target },
          ints,
        }),
        'compute',
      );
    },
  };
};

/**
 * The regions of several layers, one after the other as a step visits them: of each, rows at random places are read in
 * ascending order. Nothing of the tables of addresses is in a cache beforehand.
 */
export const layeredRows = (
  { rows, rowBytes, regionBytes }: RowCase,
  layers: number,
  bounds: Bounds,
): Site => {
  const perRegion = Math.floor(regionBytes / rowBytes);
  const chosen = Array.from({ length: layers }, (_, layer) =>
    scatteredRows(rows, perRegion, layer).toSorted(),
  );
  const pieceOf = (row: number): number => Math.floor((row * rowBytes) / PIECE_BYTES);
  const pieces = chosen.reduce((sum, index) => sum + new Set(Array.from(index, pieceOf)).size, 0) / layers;
  const copy = gatherOf({ tier: 'dram', mode: 'uva', rows, rowBytes, regionBytes });
  const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode: 0, units: 0 };
  return {
    id: `${rows} x ${rowBytes} of ${layers} x ${regionBytes}`,
    operations: [{ ...copy, pieces, visitedBytes: layers * pieces * PIECE_BYTES }],
    passes: layers,
    options: { graph: true, flushBytes: bytesBetween(bounds) },
    build: (layout) => {
      const target = layout.place('kv', rows * rowBytes);
      return repeated(
        layers,
        (layer) => ({
          kernel: 'gather',
          refs: {
            source: layout.place('host', regionBytes),
            index: layout.table('tables', chosen[layer]),
            target,
          },
          ints,
        }),
        'compute',
      );
    },
  };
};

/** Bytes that host threads pack in all passes of a site: more than their caches keep, as the layers of a step are. */
const PACKED_BYTES = 2 ** 29;
const packingPasses = (bytes: number): number =>
  Math.max(PASSES, Math.min(64, Math.ceil(PACKED_BYTES / bytes)));

const ROW_MODE = { 'cpu-gather': 'staged', dma: 'dma', 'dma-batch': 'batch' } as const;

/**
 * Rows of host memory sent by a copy engine: packed by host threads into one copy, or each by itself, by a call a row or
 * one call for all of them, which the host makes once it knows that the rows have been chosen.
 */
export const hostRows = (row: RowCase, mode: keyof typeof ROW_MODE): Site => {
  const { rows, rowBytes, regionBytes, layerBytes = regionBytes } = row;
  const named = mode !== 'cpu-gather';
  // Of a list's passes only the first need not wait for a choice.
  const passes = named ? 2 * PASSES : packingPasses(rows * rowBytes);
  const copy = named
    ? { ...gatherOf({ tier: 'dram', mode, rows, rowBytes, regionBytes }), awaitsChoice: true }
    : transferOf('h2d', rows, rowBytes, mode);
  return {
    id: `${rows} x ${rowBytes} of ${layerBytes}`,
    operations: [copy, emptyOperation],
    passes,
    options: { graph: !named },
    build: (layout) => {
      const source = layout.place('host', regionBytes);
      const staging = layout.shared('packing', rows * rowBytes);
      const target = layout.place('kv', rows * rowBytes);
      const rowMode = ROW_MODES.indexOf(ROW_MODE[mode]);
      const ints = {
        rows,
        rowBytes,
        sourceStride: rowBytes,
        targetStride: rowBytes,
        mode: rowMode,
        units: 0,
      };
      const indexes = Array.from({ length: passes }, (_, pass) => {
        const of = Math.floor(layerBytes / rowBytes);
        // Selections leave rows in ascending order.
        return layout.table('hostTables', (named ? scatteredRows : ascendingRows)(rows, of, pass));
      });
      const layers = Math.floor(regionBytes / layerBytes);
      const layer = (pass: number): Ref => plus(source, (pass % layers) * layerBytes);
      return chained(
        passes,
        (pass) => ({
          kernel: 'gather',
          refs: { source: layer(pass), index: indexes[pass], target, staging },
          ints,
        }),
        'h2d',
      );
    },
  };
};
