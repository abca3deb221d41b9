/**
 * The mirror of gather: row index[i] of the target (at index[i] * targetStride) = row i of the source (at i *
 * sourceStride), `rowBytes` bytes each; index u32 [rows], no row twice. Arguments, modes and where the index must lie
 * as in gather.ts, with the target in the place of the source; `staged` copies the rows whole to `staging` (dram), from
 * where the CPU distributes them.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u32View } from '../floats.ts';
import { randomRows } from './random-rows.ts';

export const call = {
  name: 'scatter',
  refs: ['source', 'index', 'target', 'staging'],
  writes: ['target', 'staging'],
  ints: ['rows', 'rowBytes', 'sourceStride', 'targetStride', 'mode', 'units'],
  reals: [],
  optional: ['staging'],
  extents: ({ rows, rowBytes, sourceStride }) => ({
    source: rowsExtent(rows, rowBytes, sourceStride),
    index: 4 * rows,
    target: rows === 0 ? 0 : rowBytes,
    staging: rows * rowBytes,
  }),
  reference({ ints: { rows, rowBytes, sourceStride, targetStride }, bytes }) {
    const [source, target] = [bytes('source'), bytes('target')];
    const index = u32View(bytes('index'));
    for (let i = 0; i < rows; i++)
      target.set(source.subarray(i * sourceStride, i * sourceStride + rowBytes), index[i] * targetStride);
  },
  randomCase: (random) => randomRows(random, 'scatter'),
} satisfies KernelSpec;
