/** Rows gathered by host threads into pinned memory, then sent in one copy. */
import { type Microbench, powers } from './microbench.ts';
import { hostRows } from './row-sites.ts';

export const microbench = {
  name: 'cpu-gather',
  number: 4,
  title: 'rows gathered by the CPU',
  kernels: ['gather', 'empty'],
  sites: ({ dramBytes }) => {
    const regionBytes = Math.min(2 ** 31, dramBytes / 4);
    const scattered = powers(256, 65_536, 4).flatMap((rowBytes) =>
      powers(64, 262_144, 8)
        .filter((rows) => rows * rowBytes <= regionBytes / 8)
        .map((rows) => ({ rows, rowBytes, regionBytes })),
    );
    // Half of what a layer holds, as a cache is filled again.
    const dense = [256, 1024].flatMap((rowBytes) =>
      [4096, 16_384, 65_536]
        .map((rows) => ({ rows, rowBytes, regionBytes, layerBytes: 2 * rows * rowBytes }))
        .filter(({ layerBytes }) => layerBytes <= regionBytes / 8),
    );
    return [...scattered, ...dense].map((site) => hostRows(site, 'cpu-gather'));
  },
} satisfies Microbench;
