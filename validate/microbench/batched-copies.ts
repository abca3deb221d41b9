/** Scattered rows in one call (cudaMemcpyBatchAsync, CUDA 12.8 and later). */
import { type Microbench, powers } from './microbench.ts';
import { hostRows } from './row-sites.ts';

export const microbench = {
  name: 'batched-copies',
  number: 4,
  title: 'scattered rows in one call',
  kernels: ['gather', 'empty'],
  sites: ({ dramBytes }) => {
    const regionBytes = Math.min(2 ** 30, dramBytes / 4);
    return powers(4, 4096, 4).flatMap((rows) =>
      // A row of 8 KiB takes twice as long as one of 32.
      [...powers(512, 2 ** 19, 4), 2 ** 14, 3 * 2 ** 16]
        .filter((rowBytes) => rows * rowBytes <= regionBytes / 8)
        .map((rowBytes) => hostRows({ rows, rowBytes, regionBytes }, 'dma-batch')),
    );
  },
} satisfies Microbench;
