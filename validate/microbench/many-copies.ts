/** Many small copies, one call each: what a call costs the host, and the engine between two. */
import { copySite } from './link-sites.ts';
import { type Microbench, powers } from './microbench.ts';

export const microbench = {
  name: 'many-copies',
  number: 4,
  title: 'many copies, one call each',
  kernels: ['copy', 'empty'],
  sites: (bounds) =>
    (['h2d', 'd2h'] as const).flatMap((way) =>
      powers(16, 1024, 8).flatMap((rows) =>
        powers(512, 2 ** 20, 8)
          .filter((rowBytes) => rows * rowBytes <= bounds.dramBytes / 4)
          .map((rowBytes) => copySite(way, rows, rowBytes, 'dma', bounds)),
      ),
    ),
} satisfies Microbench;
