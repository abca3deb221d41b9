/** Host threads reading their own memory. */
import type { Microbench, Site } from './microbench.ts';

const siteOf = (bytes: number): Site => ({
  id: `read ${bytes}`,
  operations: [],
  reading: 'hardware.host.cpu.readBytesPerNs',
  readingBytes: bytes,
  passes: 1,
  options: { graph: false },
  build: (layout) => [
    {
      kernel: 'work',
      stream: 'cpu',
      after: [],
      refs: { read: layout.place('host', bytes), write: layout.place('hostScores', 4) },
      ints: { readBytes: bytes, writeBytes: 0, flops: 0, matrixFlops: 0, launches: 1 },
    },
  ],
});

export const microbench = {
  name: 'host-memory',
  number: 12,
  title: 'host threads in host memory',
  kernels: ['work'],
  sites: ({ dramBytes }) => [siteOf(Math.min(2 ** 30, dramBytes / 4))],
} satisfies Microbench;
