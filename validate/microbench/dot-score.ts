/** Scores of vectors that stand for tokens: centroids, landmarks, block summaries. */
import { REDUCE } from '../../kernels/group-scores.ts';
import type { Microbench } from './microbench.ts';
import { groupSites, kernelSite, scoreOf } from './score-sites.ts';

export const microbench = {
  name: 'kernel/dot-score',
  number: 10,
  title: 'scores of vectors that stand for tokens',
  kernels: ['dot-score'],
  sites: (bounds) =>
    groupSites(bounds, 2).map(({ id, rows, group, headDim, count }) => {
      const bytes = rows * count * headDim * 2;
      const flops = 2 * headDim * count * group * rows;
      return kernelSite(
        bounds,
        id,
        {
          ...scoreOf('centroids', bytes, 0, flops),
          call: { kernel: 'dot-score', counts: { count } },
          rows,
          heads: group,
        },
        bytes,
        (layout) => ({
          kernel: 'dot-score',
          refs: {
            queries: layout.place('kv', rows * group * headDim * 2),
            vectors: layout.place('kv', bytes),
            scores: layout.place('outputs', rows * group * count * 4),
          },
          ints: {
            rows,
            group,
            count,
            headDim,
            pieceVectors: count,
            pieceStride: 1,
            pieceBytes: bytes / rows,
            scoreStride: count,
            reduce: REDUCE.perQuery,
          },
          reals: { scale: 0.1 },
        }),
      );
    }),
} satisfies Microbench;
