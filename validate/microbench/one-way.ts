/**
 * Two copies of one direction on two streams, the second with a kernel behind it: a first-in-first-out engine ends the
 * long copy, then the short one, then the kernel; engines that share would have run kernel and long copy side by side.
 */

import type { Call } from '../../kernels/calls.ts';
import { COPY_MODES } from '../../kernels/calls.ts';
import { type Microbench, powers, type Site, transferOf } from './microbench.ts';
import { scoreOf } from './score-sites.ts';

const siteOf = (way: 'h2d' | 'd2h', bytes: number): Site => {
  const shortBytes = bytes / 8;
  // Read at 50 times the link's rate, about as long as the short copy takes.
  const readBytes = 4 * bytes;
  const long = transferOf(way, 1, bytes, 'dma');
  const short = transferOf(way, 1, shortBytes, 'dma');
  return {
    id: `${way} ${bytes}, then ${shortBytes} before a kernel`,
    operations: [long, { ...short, stream: 'compute' }, scoreOf('work', readBytes, 0, 0)],
    passes: 1,
    options: { graph: false },
    build: (layout) => {
      const copyCall = (stream: Call['stream'], size: number): Call => {
        const [host, device] = [layout.place('host', size), layout.place('kv', size)];
        const [source, target] = way === 'h2d' ? [host, device] : [device, host];
        const mode = COPY_MODES.indexOf('dma');
        const ints = { count: 1, bytes: size, sourceStride: size, targetStride: size, mode };
        return { kernel: 'copy', stream, after: [], refs: { source, target }, ints };
      };
      const refs = { read: layout.place('kv', readBytes), write: layout.place('scores', 4) };
      const ints = { readBytes, writeBytes: 0, flops: 0, matrixFlops: 0, launches: 1 };
      return [
        copyCall(way, bytes),
        copyCall('compute', shortBytes),
        { kernel: 'work', stream: 'compute', after: [], refs, ints },
      ];
    },
  };
};

export const microbench = {
  name: 'one-way',
  number: 6,
  title: 'two copies of one direction on two streams',
  kernels: ['copy', 'work'],
  sites: ({ dramBytes, hbmBytes }) =>
    (['h2d', 'd2h'] as const).flatMap((way) =>
      powers(2 ** 23, Math.min(2 ** 27, dramBytes / 4, hbmBytes / 8), 4).map((bytes) => siteOf(way, bytes)),
    ),
} satisfies Microbench;
