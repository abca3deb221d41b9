/** Scattered rows that the GPU has chosen, one call each: the host learns of the choice, then names row after row. */
import { type Microbench, powers } from './microbench.ts';
import { hostRows } from './row-sites.ts';

export const microbench = {
  name: 'chosen-copies',
  number: 4,
  title: 'chosen rows, one call each',
  kernels: ['gather', 'empty'],
  sites: ({ dramBytes }) => {
    const regionBytes = Math.min(2 ** 30, dramBytes / 4);
    return [4, 16, 128].flatMap((rows) =>
      powers(4096, 2 ** 20, 4)
        .filter((rowBytes) => rows * rowBytes <= regionBytes / 8)
        .map((rowBytes) => hostRows({ rows, rowBytes, regionBytes }, 'dma')),
    );
  },
} satisfies Microbench;
