/**
 * Work on several streams at once: copies while attention, products or the host's own threads read memory. No law is
 * fitted on these sites; they show how far the fabric's sharing is from the machine's.
 */
import { COPY_MODES } from '../../kernels/calls.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { AreaName, Layout } from '../execute/memory.ts';
import type { Bounds, Microbench, Site } from './microbench.ts';
import { transferOf } from './microbench.ts';
import { scoreOf } from './score-sites.ts';

interface Beside {
  readonly name: string;
  readonly operation: Operation;
  readonly area: AreaName;
  readonly readBytes: number;
}

const copyCall = (layout: Layout, way: 'h2d' | 'd2h', bytes: number) => {
  const host = layout.place('host', bytes);
  const device = layout.place('kv', bytes);
  const [source, target] = way === 'h2d' ? [host, device] : [device, host];
  const ints = { count: 1, bytes, sourceStride: bytes, targetStride: bytes, mode: COPY_MODES.indexOf('dma') };
  return { kernel: 'copy', stream: way, after: [], refs: { source, target }, ints } as const;
};

const siteOf = (
  way: 'h2d' | 'd2h',
  copyBytes: number,
  { name, operation, area, readBytes }: Beside,
): Site => ({
  id: `${way} ${copyBytes} beside ${name}`,
  operations: [transferOf(way, 1, copyBytes, 'dma'), operation],
  passes: 1,
  options: { graph: false },
  build: (layout) => [
    copyCall(layout, way, copyBytes),
    {
      kernel: 'work',
      stream: operation.stream,
      after: [],
      refs: {
        read: layout.place(area, readBytes),
        write: layout.place(area === 'host' ? 'hostOutputs' : 'outputs', 4),
      },
      ints: { readBytes, writeBytes: 0, flops: 0, matrixFlops: 0, launches: 1 },
    },
  ],
});

const hostRead = (readBytes: number): Beside => ({
  name: `host threads reading ${readBytes}`,
  operation: {
    ...scoreOf('work', 0, 0, 0),
    readBytes: { dram: readBytes },
    where: 'cpu',
    stream: 'cpu',
  } as Operation,
  area: 'host',
  readBytes,
});

const deviceRead = (readBytes: number): Beside => ({
  name: `a kernel reading ${readBytes}`,
  operation: scoreOf('work', readBytes, 0, 0),
  area: 'kv',
  readBytes,
});

/** The sizes, none above `most`, none twice. */
const upTo = (sizes: readonly number[], most: number): readonly number[] => [
  ...new Set(sizes.map((size) => Math.min(size, most))),
];

const sitesOf = ({ hbmBytes, dramBytes }: Bounds): readonly Site[] => {
  const copyBytes = Math.min(2 ** 27, dramBytes / 4);
  const beside = [
    ...upTo([2 ** 28, 2 ** 31], hbmBytes / 2).map(deviceRead),
    ...upTo([2 ** 27, 2 ** 29], dramBytes / 2).map(hostRead),
  ];
  return (['h2d', 'd2h'] as const).flatMap((way) => beside.map((one) => siteOf(way, copyBytes, one)));
};

export const microbench = {
  name: 'overlap',
  number: 11,
  title: 'copies beside kernels and host threads',
  kernels: ['copy', 'work'],
  sites: sitesOf,
} satisfies Microbench;
