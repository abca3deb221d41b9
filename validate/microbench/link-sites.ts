/** Sites of transfers over the link: what host copies, many copies, batches and pageable memory have in common. */
import { COPY_MODES, type Ref } from '../../kernels/calls.ts';
import { type AreaName, plus } from '../execute/memory.ts';
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
      // Each pass has host memory of its own: what a processor's caches keep of the last one is another regime.
      const placed = (area: AreaName): Ref => layout.place(area, area === host ? bytes * passes : bytes);
      const [source, target] = [placed(from), placed(to)];
      const at = (ref: Ref, area: AreaName, pass: number): Ref => plus(ref, area === host ? pass * bytes : 0);
      const ints = {
        count: rows,
        bytes: rowBytes,
        sourceStride: rowBytes,
        targetStride: rowBytes,
        mode: copyMode,
      };
      return chained(
        passes,
        (pass) => ({
          kernel: 'copy',
          refs: { source: at(source, from, pass), target: at(target, to, pass) },
          ints,
        }),
        way,
      );
    },
  };
};
