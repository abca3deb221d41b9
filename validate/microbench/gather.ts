/** Scattered rows within device memory. */
import { type Microbench, powers } from './microbench.ts';
import { kernelRows } from './row-sites.ts';

export const microbench = {
  name: 'gather',
  number: 9,
  title: 'rows gathered in device memory',
  kernels: ['gather'],
  sites: ({ hbmBytes, l2Bytes }) => {
    const regionBytes = Math.min(2 ** 31, hbmBytes / 4);
    // Around the size from which on the cache no longer keeps what is written.
    const nearCache = (rows: number, rowBytes: number): boolean =>
      rows * rowBytes > l2Bytes / 5 && rows * rowBytes < l2Bytes;
    return powers(64, 16_384, 4).flatMap((rowBytes) =>
      [
        ...powers(256, 2 ** 20, 2),
        ...[5 / 4, 3 / 2].flatMap((by) =>
          powers(256 * by, 2 ** 20, 2).filter((rows) => nearCache(rows, rowBytes)),
        ),
      ]
        .filter((rows) => rows * rowBytes <= regionBytes / 4)
        .map((rows) => kernelRows('hbm', { rows, rowBytes, regionBytes })),
    );
  },
} satisfies Microbench;
