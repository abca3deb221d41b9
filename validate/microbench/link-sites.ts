/** Sites of transfers over the link: what host copies, many copies, batches and pageable memory have in common. */
import { COPY_MODES } from '../../kernels/calls.ts';
import type { AreaName } from '../execute/memory.ts';
import { chained, emptyOperation, type Site, transferOf } from './microbench.ts';

const PASSES = 8;

/** Copies of `rows` runs of `rowBytes`, side by side at the source and at the target. */
export const copySite = (
  way: 'h2d' | 'd2h',
  rows: number,
  rowBytes: number,
  mode: 'dma' | 'dma-batch' | 'pageable',
): Site => {
  const bytes = rows * rowBytes;
  const host: AreaName = mode === 'pageable' ? 'pageable' : 'host';
  const copyMode = COPY_MODES.indexOf(mode === 'dma-batch' ? 'batch' : 'dma');
  const passes = bytes > 2 ** 28 ? 1 : bytes > 2 ** 24 ? 2 : PASSES;
  return {
    id: `${way} ${rows} x ${rowBytes}`,
    operations: [transferOf(way, rows, rowBytes, mode), emptyOperation],
    passes,
    // Batches and pageable copies cannot be recorded in a graph, and a loop of calls is what is measured.
    options: { graph: false },
    build: (layout) => {
      const [from, to]: readonly AreaName[] = way === 'h2d' ? [host, 'kv'] : ['kv', host];
      const [source, target] = [layout.place(from, bytes), layout.place(to, bytes)];
      const ints = {
        count: rows,
        bytes: rowBytes,
        sourceStride: rowBytes,
        targetStride: rowBytes,
        mode: copyMode,
      };
      return chained(passes, () => ({ kernel: 'copy', refs: { source, target }, ints }), way);
    },
  };
};
