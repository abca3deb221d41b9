/** Many copies in one call (cudaMemcpyBatchAsync, CUDA 12.8 and later). */
import { copySite } from './link-sites.ts';
import { type Microbench, powers } from './microbench.ts';

export const microbench = {
  name: 'batched-copies',
  number: 4,
  title: 'many copies in one call',
  kernels: ['copy', 'empty'],
  sites: ({ dramBytes }) =>
    powers(16, 4096, 4).flatMap((rows) =>
      powers(512, 2 ** 20, 8)
        .filter((rowBytes) => rows * rowBytes <= dramBytes / 4)
        .map((rowBytes) => copySite('h2d', rows, rowBytes, 'dma-batch')),
    ),
} satisfies Microbench;
