/** Scores of vectors that stand for tokens: centroids, landmarks, block summaries. */
import { type Microbench, powers } from './microbench.ts';
import { kernelSite, scoreOf } from './score-sites.ts';

const GROUP = 4;
const HEAD_DIM = 128;

export const microbench = {
  name: 'kernel/dot-score',
  number: 10,
  title: 'scores of vectors that stand for tokens',
  kernels: ['dot-score'],
  sites: (bounds) =>
    [2, 4, 8, 32, 64].flatMap((rows) =>
      powers(17, 35_000, 2)
        .filter((count) => rows * count * 2 * HEAD_DIM <= bounds.hbmBytes / 4)
        .map((count) => {
          const bytes = rows * count * HEAD_DIM * 2;
          const flops = 2 * HEAD_DIM * count * GROUP * rows;
          return kernelSite(
            bounds,
            `${rows} x ${count}`,
            {
              ...scoreOf('centroids', bytes, 0, flops),
              call: { kernel: 'dot-score', counts: { count } },
              rows,
            },
            bytes,
            (layout) => ({
              kernel: 'dot-score',
              refs: {
                queries: layout.place('kv', rows * GROUP * HEAD_DIM * 2),
                vectors: layout.place('kv', bytes),
                scores: layout.place('outputs', rows * GROUP * count * 4),
              },
              ints: {
                rows,
                group: GROUP,
                count,
                headDim: HEAD_DIM,
                pieceVectors: count,
                pieceStride: 1,
                pieceBytes: bytes / rows,
                scoreStride: count,
                reduce: 0,
              },
              reals: { scale: 0.1 },
            }),
          );
        }),
    ),
} satisfies Microbench;
