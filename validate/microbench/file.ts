/** Reads of a file past the page cache into host memory, by size and number: the drive, or what stands in for one. */
import { COPY_MODES } from '../../kernels/calls.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { type Microbench, powers, repeated, type Site } from './microbench.ts';

const PASSES = 2;

const siteOf = (rows: number, rowBytes: number): Site => {
  const operation: Operation = {
    kind: 'fetch',
    from: 'nvme',
    to: 'dram',
    rows,
    rowBytes,
    mode: 'dma',
    layer: 0,
    stream: 'nvme',
    after: [],
  };
  const bytes = rows * rowBytes;
  return {
    id: `${rows} x ${rowBytes}`,
    operations: [operation],
    passes: PASSES,
    options: { graph: false },
    build: (layout) => {
      const source = layout.place('file', PASSES * bytes, 4096);
      const target = layout.place('hostOutputs', bytes, 4096);
      const ints = { count: rows, bytes: rowBytes, sourceStride: rowBytes, targetStride: rowBytes };
      return repeated(
        PASSES,
        (pass) => ({
          kernel: 'copy',
          refs: { source: { ...source, offset: source.offset + pass * bytes }, target },
          ints: { ...ints, mode: COPY_MODES.indexOf('dma') },
        }),
        'nvme',
      );
    },
  };
};

export const microbench = {
  name: 'file',
  number: 13,
  title: 'reads of a file past the page cache',
  kernels: ['copy'],
  sites: ({ dramBytes }) =>
    [1, 4, 16, 64].flatMap((rows) =>
      powers(4096, 2 ** 22, 4)
        .filter((rowBytes) => rows * rowBytes <= Math.min(2 ** 27, dramBytes / 4))
        .map((rowBytes) => siteOf(rows, rowBytes)),
    ),
} satisfies Microbench;
