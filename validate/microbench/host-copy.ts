/** One copy at a time over the link, pinned memory, by size. */
import { copySite } from './link-sites.ts';
import { type Microbench, powers } from './microbench.ts';

export const microbench = {
  name: 'host-copy',
  number: 3,
  title: 'copies over the link by size',
  kernels: ['copy', 'empty'],
  sites: (bounds) =>
    (['h2d', 'd2h'] as const).flatMap((way) =>
      powers(1024, Math.min(2 ** 28, bounds.dramBytes / 2), 4).map((bytes) =>
        copySite(way, 1, bytes, 'dma', bounds),
      ),
    ),
} satisfies Microbench;
