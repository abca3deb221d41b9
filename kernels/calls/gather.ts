/**
 * Collects chosen rows: row i of the target (at i * targetStride) = row index[i] of the source (at index[i] *
 * sourceStride), `rowBytes` bytes each; index u32 [rows]. `mode` is a position in ROW_MODES. Mode `kernel` reads the
 * source over the link where it is host memory; the other modes want the source and the index in host memory (`dram`),
 * the index complete before the list is run; `dma` and `batch` are enqueued once what the call waits for has ended, as
 * where that chooses the rows; `staged` packs rows * rowBytes bytes in `staging` (dram) first.
 * `units`: multiprocessors or threads that mode `kernel` may use, 0 = as many as pay. Over a link an ascending index
 * pays: short rows at random wait for address translation (measured on an H100 over PCIe 5, 128 B rows of a region of
 * 1 GiB: 15 GB/s at random, 50 ascending; of 16 GiB: 4 and 7; the link does 50).
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u32View } from '../floats.ts';
import { randomRows } from './random-rows.ts';

export const call = {
  name: 'gather',
  refs: ['source', 'index', 'target', 'staging'],
  writes: ['target', 'staging'],
  ints: ['rows', 'rowBytes', 'sourceStride', 'targetStride', 'mode', 'units'],
  reals: [],
  optional: ['staging'],
  extents: ({ rows, rowBytes, targetStride }) => ({
    source: rows === 0 ? 0 : rowBytes,
    index: 4 * rows,
    target: rowsExtent(rows, rowBytes, targetStride),
    staging: rows * rowBytes,
  }),
  reference({ ints: { rows, rowBytes, sourceStride, targetStride }, bytes }) {
    const [source, target] = [bytes('source'), bytes('target')];
    const index = u32View(bytes('index'));
    for (let i = 0; i < rows; i++) {
      const from = index[i] * sourceStride;
      target.set(source.subarray(from, from + rowBytes), i * targetStride);
    }
  },
  randomCase: (random) => randomRows(random, 'gather'),
} satisfies KernelSpec;
