/** Merging of partial attention outputs. */
import type { Microbench } from './microbench.ts';
import { kernelSite } from './score-sites.ts';

const HEAD_DIM = 128;

export const microbench = {
  name: 'kernel/merge',
  number: 10,
  title: 'merging partial attention',
  kernels: ['merge'],
  sites: (bounds) =>
    [8, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048].flatMap((rows) =>
      [2, 3, 4, 5, 6, 8, 9, 12, 16].map((parts) => {
        const bytes = rows * parts * (HEAD_DIM + 2) * 4;
        const site = kernelSite(
          bounds,
          `${rows} x ${parts}`,
          { kind: 'merge', parts, bytes, layer: 0, stream: 'compute', after: [] },
          bytes,
          (layout) => ({
            kernel: 'merge',
            refs: {
              partials: layout.place('scores', bytes),
              out: layout.place('outputs', rows * HEAD_DIM * 4),
            },
            ints: { rows, parts, headDim: HEAD_DIM },
          }),
        );
        return { ...site, fresh: true };
      }),
    ),
} satisfies Microbench;
