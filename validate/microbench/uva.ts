/** Rows of host memory read by a kernel, by size of a row, number of rows and size of the region. */
import { type Microbench, powers } from './microbench.ts';
import { kernelRows } from './row-sites.ts';

export const microbench = {
  name: 'uva',
  number: 8,
  title: 'rows of host memory read by a kernel',
  kernels: ['gather'],
  sites: ({ dramBytes }) =>
    [2 ** 28, 2 ** 32]
      .map((region) => Math.min(region, dramBytes / 2))
      .filter((region, at, all) => all.indexOf(region) === at)
      .flatMap((regionBytes) =>
        powers(64, 16_384, 4).flatMap((rowBytes) =>
          powers(256, 262_144, 8)
            .filter((rows) => rows * rowBytes <= Math.min(2 ** 27, regionBytes))
            .map((rows) => kernelRows('dram', { rows, rowBytes, regionBytes })),
        ),
      ),
} satisfies Microbench;
