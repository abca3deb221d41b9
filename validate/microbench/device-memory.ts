/** Streaming reads and copies within device memory, far beyond its cache. */
import type { Microbench, Site } from './microbench.ts';
import { repeated } from './microbench.ts';

const PASSES = 4;
const HBM = 'hardware.accelerator.hbm';

export const microbench = {
  name: 'device-memory',
  number: 2,
  title: 'reads and copies in device memory',
  kernels: ['work', 'copy'],
  sites: ({ hbmBytes }) => {
    const bytes = Math.floor(hbmBytes / 8 / 4096) * 4096;
    const read: Site = {
      id: `read ${bytes}`,
      operations: [],
      reading: `${HBM}.achievedBytesPerNs`,
      readingBytes: bytes,
      passes: PASSES,
      build: (layout) =>
        repeated(
          PASSES,
          () => ({
            kernel: 'work',
            refs: { read: layout.place('kv', bytes), write: layout.place('scores', 4) },
            ints: { readBytes: bytes, writeBytes: 0, flops: 0, matrixFlops: 0, launches: 1 },
          }),
          'compute',
        ),
    };
    const copy: Site = {
      id: `copy ${bytes}`,
      operations: [],
      reading: `${HBM}.copyBytesPerNs`,
      readingBytes: 2 * bytes,
      passes: PASSES,
      build: (layout) => {
        const source = layout.place('kv', PASSES * bytes);
        const target = layout.place('kv', bytes);
        return repeated(
          PASSES,
          (pass) => ({
            kernel: 'copy',
            refs: { source: { ...source, offset: source.offset + pass * bytes }, target },
            ints: { count: 1, bytes, sourceStride: bytes, targetStride: bytes, mode: 3 },
          }),
          'compute',
        );
      },
    };
    return [read, copy];
  },
} satisfies Microbench;
