/** Declared work of host threads without a kernel of its own, between two kernels: bytes read and written, arithmetic. */
import type { Operation } from '../../sim/program/operation.ts';
import {
  chained,
  emptyOperation,
  type Microbench,
  PROCESSOR_BYTES,
  powers,
  type Site,
} from './microbench.ts';

const scoreOf = (readBytes: number, writeBytes: number, flops: number): Operation => ({
  kind: 'score',
  index: 'work',
  readBytes: { dram: readBytes },
  writeBytes: writeBytes > 0 ? { dram: writeBytes } : {},
  flops,
  kernels: 1,
  where: 'cpu',
  layer: 0,
  stream: 'cpu',
  after: [],
});

/** Bytes that the passes of a site visit together: more than the processor's caches hold, as layers do. */
const VISITED_BYTES = 2 ** 30;

const siteOf = (readBytes: number, writeBytes: number, flops: number, room: number): Site => {
  const bytes = readBytes + writeBytes;
  const passes = Math.max(4, Math.min(32, Math.floor(room / bytes)));
  return {
    id: `read ${readBytes} write ${writeBytes} flops ${flops}`,
    operations: [scoreOf(readBytes, writeBytes, flops), emptyOperation],
    passes,
    options: { graph: true },
    build: (layout) => {
      // Passes of small work lie far apart in the room, so that they find as little in caches as large work does.
      const apart = Math.max(readBytes, Math.floor(room / passes / 256) * 256);
      const read = layout.place('host', apart * passes);
      const write = layout.place('hostOutputs', Math.max(4, writeBytes));
      return chained(
        passes,
        (pass) => ({
          kernel: 'work',
          refs: { read: { ...read, offset: read.offset + apart * pass }, write },
          ints: { readBytes, writeBytes, flops, matrixFlops: 0, launches: 1 },
        }),
        'cpu',
      );
    },
  };
};

export const microbench = {
  name: 'host-kernel/score',
  number: 12,
  title: 'declared work of host threads without a kernel of its own',
  kernels: ['work', 'empty'],
  sites: ({ backend, dramBytes }) => {
    const room = Math.min(dramBytes / 2, backend === 'cuda' ? VISITED_BYTES : PROCESSOR_BYTES);
    return powers(4096, Math.min(2 ** 26, dramBytes / 8), 8).flatMap((readBytes) =>
      [
        [0, 0],
        [0, 2],
        [0, 16],
        [0.25, 0],
      ].map(([writeShare, flopsPerByte]) =>
        siteOf(readBytes, readBytes * writeShare, readBytes * flopsPerByte, room),
      ),
    );
  },
} satisfies Microbench;
