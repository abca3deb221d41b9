/** Sites of scattered rows: read in device memory, over the link by a kernel, or gathered by host threads. */
import { ROW_MODES } from '../../kernels/calls.ts';
import { gatherOf } from '../../sim/timing/cost-cases.ts';
import type { AreaName } from '../execute/memory.ts';
import { chained, emptyOperation, repeated, type Site, scatteredRows, transferOf } from './microbench.ts';

const PASSES = 4;
/** Rows that the passes of a site choose together: enough that none is still known to the address translation. */
const ROWS_CHOSEN = 2 ** 17;

const passesOf = (rows: number): number => Math.max(PASSES, Math.min(256, Math.ceil(ROWS_CHOSEN / rows)));

interface RowCase {
  readonly rows: number;
  readonly rowBytes: number;
  readonly regionBytes: number;
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

const ROW_MODE = { 'cpu-gather': 'staged', 'dma-batch': 'batch' } as const;

/** Rows of host memory sent by a copy engine: packed by host threads into one copy, or each by itself in one call. */
export const hostRows = (
  { rows, rowBytes, regionBytes }: RowCase,
  mode: 'cpu-gather' | 'dma-batch',
): Site => ({
  id: `${rows} x ${rowBytes} of ${regionBytes}`,
  operations: [transferOf('h2d', rows, rowBytes, mode), emptyOperation],
  passes: PASSES,
  options: { graph: false },
  build: (layout) => {
    const source = layout.place('host', regionBytes);
    const staging = layout.place('host', rows * rowBytes);
    const target = layout.place('kv', rows * rowBytes);
    const rowMode = ROW_MODES.indexOf(ROW_MODE[mode]);
    const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode: rowMode, units: 0 };
    const indexes = Array.from({ length: PASSES }, (_, pass) =>
      layout.table('hostTables', scatteredRows(rows, Math.floor(regionBytes / rowBytes), pass)),
    );
    return chained(
      PASSES,
      (pass) => ({ kernel: 'gather', refs: { source, index: indexes[pass], target, staging }, ints }),
      'h2d',
    );
  },
});
