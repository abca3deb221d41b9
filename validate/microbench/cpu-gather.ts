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
    return powers(256, 65_536, 4).flatMap((rowBytes) =>
      powers(64, 32_768, 8)
        .filter((rows) => rows * rowBytes <= regionBytes / 8)
        .map((rows) => hostRows({ rows, rowBytes, regionBytes }, 'cpu-gather')),
    );
  },
} satisfies Microbench;
