/** Copies from and to memory that is not pinned: a driver's staging buffer stands between. */
import { copySite } from './link-sites.ts';
import { type Microbench, powers } from './microbench.ts';

export const microbench = {
  name: 'pageable',
  number: 7,
  title: 'copies of pageable memory',
  kernels: ['copy', 'empty'],
  sites: (bounds) =>
    (['h2d', 'd2h'] as const).flatMap((way) =>
      powers(2 ** 16, Math.min(2 ** 26, bounds.dramBytes / 4), 2).map((bytes) =>
        copySite(way, 1, bytes, 'pageable', bounds),
      ),
    ),
} satisfies Microbench;
