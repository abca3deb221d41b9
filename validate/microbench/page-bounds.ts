/** Scores of pages by the bounds of their keys (Quest). */
import { type Microbench, powers } from './microbench.ts';
import { kernelSite, scoreOf } from './score-sites.ts';

const GROUP = 4;
const HEAD_DIM = 128;

export const microbench = {
  name: 'kernel/bounds-score',
  number: 10,
  title: 'scores of pages by their bounds',
  kernels: ['bounds-score'],
  sites: (bounds) =>
    [2, 4, 8, 32, 64].flatMap((rows) =>
      powers(17, 35_000, 2)
        .filter((pages) => rows * pages * 4 * HEAD_DIM <= bounds.hbmBytes / 4)
        .map((pages) => {
          const bytes = rows * pages * 2 * HEAD_DIM * 2;
          const flops = 3 * HEAD_DIM * pages * GROUP * rows;
          return kernelSite(
            bounds,
            `${rows} x ${pages}`,
            {
              ...scoreOf('page-bounds', bytes, 0, flops),
              call: { kernel: 'bounds-score', counts: { pages } },
              rows,
            },
            bytes,
            (layout) => ({
              kernel: 'bounds-score',
              refs: {
                queries: layout.place('kv', rows * GROUP * HEAD_DIM * 2),
                bounds: layout.place('kv', bytes),
                scores: layout.place('outputs', rows * GROUP * pages * 4),
              },
              ints: {
                rows,
                group: GROUP,
                pages,
                headDim: HEAD_DIM,
                boundStride: pages,
                scoreStride: pages,
                reduce: 0,
              },
            }),
          );
        }),
    ),
} satisfies Microbench;
