/** Sites of transfers over the link: what host copies, many copies, batches and pageable memory have in common. */
import { COPY_MODES } from '../../kernels/calls.ts';
import type { AreaName } from '../execute/memory.ts';
import { type Bounds, chained, emptyOperation, passesFor, type Site, transferOf } from './microbench.ts';

const PASSES = 8;

/** A processor's copies are as slow as the memory behind its caches, so passes are as many as go past those. */
const passesOf = (bytes: number, bounds: Bounds): number => {
  if (bounds.backend === 'cuda') return bytes > 2 ** 28 ? 1 : bytes > 2 ** 24 ? 2 : PASSES;
  return passesFor(bytes, { ...bounds, hbmBytes: Math.min(bounds.hbmBytes, bounds.dramBytes) });
};

/** Copies of `rows` runs of `rowBytes`, side by side at the source and at the target. */
export const copySite = (
  way: 'h2d' | 'd2h',
  rows: number,
  rowBytes: number,
  mode: 'dma' | 'dma-batch' | 'pageable',
  bounds: Bounds,
): Site => {
  const bytes = rows * rowBytes;
  const host: AreaName = mode === 'pageable' ? 'pageable' : 'host';
  const copyMode = COPY_MODES.indexOf(mode === 'dma-batch' ? 'batch' : 'dma');
  const passes = passesOf(bytes, bounds);
  return {
    id: `${way} ${rows} x ${rowBytes}`,
    operations: [transferOf(way, rows, rowBytes, mode), emptyOperation],
    passes,
    // One copy takes what the engine takes to start and to end. Of many, a loop of calls is what is measured; batches and
    // pageable copies cannot be recorded in a graph.
    options: { graph: mode === 'dma' && rows === 1 },
    build: (layout) => {
      // Each pass has host memory of its own: what a processor's caches keep of the last one is another regime.
      const placesIn = (area: AreaName) => {
        const places = area === host || bounds.backend !== 'cuda' ? passes : 1;
        const refs = Array.from({ length: places }, () => layout.place(area, bytes));
        return (pass: number) => refs[pass % places];
      };
      const [source, target] = (way === 'h2d' ? ([host, 'kv'] as const) : (['kv', host] as const)).map(
        placesIn,
      );
      const ints = {
        count: rows,
        bytes: rowBytes,
        sourceStride: rowBytes,
        targetStride: rowBytes,
        mode: copyMode,
      };
      return chained(
        passes,
        (pass) => ({ kernel: 'copy', refs: { source: source(pass), target: target(pass) }, ints }),
        way,
      );
    },
  };
};
