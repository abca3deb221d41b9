/** Scattered rows within device memory. */
import { type Microbench, powers } from './microbench.ts';
import { kernelRows } from './row-sites.ts';

export const microbench = {
  name: 'gather',
  number: 9,
  title: 'rows gathered in device memory',
  kernels: ['gather'],
  sites: ({ hbmBytes }) => {
    const regionBytes = Math.min(2 ** 31, hbmBytes / 4);
    return powers(64, 16_384, 4).flatMap((rowBytes) =>
      powers(256, 2 ** 20, 2)
        .filter((rows) => rows * rowBytes <= regionBytes / 4)
        .map((rows) => kernelRows('hbm', { rows, rowBytes, regionBytes })),
    );
  },
} satisfies Microbench;
