/** One copy at a time over the link, pinned memory, by size. */
import { copySite } from './link-sites.ts';
import { type Microbench, powers } from './microbench.ts';

/** Recorded copies of no more than this come with the command that asks for them: 4 us where others take 9 (H100). */
const CARRIED_BYTES = 1024;

export const microbench = {
  name: 'host-copy',
  number: 3,
  title: 'copies over the link by size',
  kernels: ['copy', 'empty'],
  sites: (bounds) =>
    (['h2d', 'd2h'] as const).flatMap((way) =>
      powers(512, Math.min(2 ** 28, bounds.dramBytes / 2), 4)
        .filter((bytes) => way === 'd2h' || bytes > CARRIED_BYTES)
        .map((bytes) => copySite(way, 1, bytes, 'dma', bounds)),
    ),
} satisfies Microbench;
