/** Host threads reading, and reading and writing, their own memory. */
import type { Call } from '../../kernels/calls.ts';
import type { Microbench, Site } from './microbench.ts';

const DRAM = 'hardware.host.dram';

const siteOf = (bytes: number, reading: string, writes: boolean): Site => ({
  id: writes ? `read and write ${bytes}` : `read ${bytes}`,
  operations: [],
  reading: `${DRAM}.${reading}`,
  readingBytes: writes ? 2 * bytes : bytes,
  passes: 1,
  options: { graph: false },
  build: (layout): readonly Call[] => [
    {
      kernel: 'work',
      stream: 'cpu',
      after: [],
      refs: { read: layout.place('host', bytes), write: layout.place('hostScores', writes ? bytes : 4) },
      ints: { readBytes: bytes, writeBytes: writes ? bytes : 0, flops: 0, matrixFlops: 0, launches: 1 },
    },
  ],
});

export const microbench = {
  name: 'host-memory',
  number: 12,
  title: 'host threads in host memory',
  kernels: ['work'],
  sites: ({ dramBytes }) => {
    const bytes = Math.min(2 ** 30, dramBytes / 4);
    return [siteOf(bytes, 'readBytesPerNs', false), siteOf(bytes, 'mixedBytesPerNs', true)];
  },
} satisfies Microbench;
