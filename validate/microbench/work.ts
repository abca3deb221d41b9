/** The stand-in of declared work that has no kernel of its own: bytes read and written, and arithmetic. */
import { type Microbench, powers } from './microbench.ts';
import { kernelSite, scoreOf } from './score-sites.ts';

export const microbench = {
  name: 'kernel/score',
  number: 10,
  title: 'declared work without a kernel of its own',
  kernels: ['work'],
  sites: (bounds) =>
    powers(4096, Math.min(2 ** 28, bounds.hbmBytes / 4), 4).flatMap((readBytes) =>
      [0, 0.25].flatMap((writeShare) =>
        [0, 8, 64].map((flopsPerByte) => {
          const writeBytes = readBytes * writeShare;
          const flops = readBytes * flopsPerByte;
          const operation = scoreOf('work', readBytes, writeBytes, flops);
          const id = `read ${readBytes} write ${writeBytes} flops ${flops}`;
          return kernelSite(bounds, id, operation, readBytes + writeBytes, (layout) => ({
            kernel: 'work',
            refs: {
              read: layout.place('kv', readBytes),
              write: layout.place('scores', Math.max(4, writeBytes)),
            },
            ints: { readBytes, writeBytes, flops, matrixFlops: 0, launches: 1 },
          }));
        }),
      ),
    ),
} satisfies Microbench;
