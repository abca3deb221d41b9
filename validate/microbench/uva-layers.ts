/** Rows of host memory that a kernel reads in ascending order, layer after layer, each of a region of its own. */
import { type Microbench, powers } from './microbench.ts';
import { layeredRows } from './row-sites.ts';

export const microbench = {
  name: 'uva-layers',
  number: 8,
  title: 'rows of many regions of host memory read by kernels',
  kernels: ['gather'],
  sites: (bounds) => {
    const bytes = Math.min(2 ** 32, bounds.dramBytes / 2);
    const some = [8, 32].flatMap((layers) =>
      [256, 2048].flatMap((rowBytes) =>
        powers(512, 8192, 4)
          .filter((rows) => rows * rowBytes * layers <= bytes / 2)
          .map((rows) => layeredRows({ rows, rowBytes, regionBytes: bytes / layers }, layers, bounds)),
      ),
    );
    // Long contexts of many sequences: more tables of addresses than lie in any cache.
    const regionBytes = Math.min(2 ** 33, bounds.dramBytes / 4);
    const many = powers(8192, 65_536, 2)
      .filter((rows) => rows * 256 <= regionBytes / 8)
      .map((rows) => layeredRows({ rows, rowBytes: 256, regionBytes }, 2, bounds));
    return [...some, ...many];
  },
} satisfies Microbench;
