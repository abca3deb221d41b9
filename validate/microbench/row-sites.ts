/** Sites of scattered rows: read in device memory, over the link by a kernel, or gathered by host threads. */
import { ROW_MODES } from '../../kernels/calls.ts';
import { gatherOf } from '../../sim/timing/cost-cases.ts';
import type { AreaName } from '../execute/memory.ts';
import { chained, emptyOperation, repeated, type Site, scatteredRows, transferOf } from './microbench.ts';

const PASSES = 4;

interface RowCase {
  readonly rows: number;
  readonly rowBytes: number;
  readonly regionBytes: number;
}

/** A kernel gathers rows: from host memory (`uva`) or within device memory. */
export const kernelRows = (tier: 'hbm' | 'dram', { rows, rowBytes, regionBytes }: RowCase): Site => ({
  id: `${rows} x ${rowBytes} of ${regionBytes}`,
  operations: [gatherOf({ tier, mode: 'uva', rows, rowBytes, regionBytes })],
  passes: PASSES,
  options: { graph: true },
  build: (layout) => {
    const area: AreaName = tier === 'hbm' ? 'kv' : 'host';
    const source = layout.place(area, regionBytes);
    const target = layout.place('kv', rows * rowBytes);
    const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode: 0, units: 0 };
    const indexes = Array.from({ length: PASSES }, (_, pass) =>
      layout.table('tables', scatteredRows(rows, Math.floor(regionBytes / rowBytes), pass)),
    );
    return repeated(
      PASSES,
      (pass) => ({ kernel: 'gather', refs: { source, index: indexes[pass], target }, ints }),
      'compute',
    );
  },
});

/** Host threads pack rows into pinned memory, and one copy sends them. */
export const stagedRows = ({ rows, rowBytes, regionBytes }: RowCase): Site => ({
  id: `${rows} x ${rowBytes} of ${regionBytes}`,
  operations: [transferOf('h2d', rows, rowBytes, 'cpu-gather'), emptyOperation],
  passes: PASSES,
  options: { graph: false },
  build: (layout) => {
    const source = layout.place('host', regionBytes);
    const staging = layout.place('host', rows * rowBytes);
    const target = layout.place('kv', rows * rowBytes);
    const mode = ROW_MODES.indexOf('staged');
    const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode, units: 0 };
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
