/** Scores of pages by the bounds of their keys (Quest). */
import { REDUCE } from '../../kernels/group-scores.ts';
import type { Microbench } from './microbench.ts';
import { groupSites, kernelSite, scoreOf } from './score-sites.ts';

export const microbench = {
  name: 'kernel/bounds-score',
  number: 10,
  title: 'scores of pages by their bounds',
  kernels: ['bounds-score'],
  sites: (bounds) =>
    groupSites(bounds, 4).map(({ id, rows, group, headDim, count: pages }) => {
      const bytes = rows * pages * 2 * headDim * 2;
      const flops = 3 * headDim * pages * group * rows;
      return kernelSite(
        bounds,
        id,
        {
          ...scoreOf('page-bounds', bytes, 0, flops),
          call: { kernel: 'bounds-score', counts: { pages } },
          rows,
          heads: group,
        },
        bytes,
        (layout) => ({
          kernel: 'bounds-score',
          refs: {
            queries: layout.place('kv', rows * group * headDim * 2),
            bounds: layout.place('kv', bytes),
            scores: layout.place('outputs', rows * group * pages * 4),
          },
          ints: {
            rows,
            group,
            pages,
            headDim,
            boundStride: pages,
            scoreStride: pages,
            reduce: REDUCE.max,
          },
        }),
      );
    }),
} satisfies Microbench;
