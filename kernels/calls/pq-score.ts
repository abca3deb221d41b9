/**
 * Estimated scale · q·k from product codes (asymmetric distances): the sum over subspaces of the query's products with the
 * centroids that a key's codes name. queries bf16 [rows, group, headDim]; books f32 [rows, subspaces, centroids,
 * headDim / subspaces]; codes u8 [rows, tokenStride, subspaces]; scores f32 [rows, group or 1, scoreStride] of which the
 * first `count` are written; `reduce` as REDUCE of group-scores.ts; group <= 32. Jégou et al., doi:10.1109/TPAMI.2010.57.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, fromBf16 } from '../floats.ts';
import { randomBf16, randomF32, scoreRows, writeScores } from '../group-scores.ts';

export const call = {
  name: 'pq-score',
  refs: ['queries', 'books', 'codes', 'scores'],
  writes: ['scores'],
  ints: [
    'rows',
    'group',
    'count',
    'headDim',
    'subspaces',
    'centroids',
    'tokenStride',
    'scoreStride',
    'reduce',
  ],
  reals: ['scale'],
  extents: ({ rows, group, count, headDim, subspaces, centroids, tokenStride, scoreStride, reduce }) => ({
    queries: 2 * rows * group * headDim,
    books: 4 * rows * centroids * headDim,
    codes: rowsExtent(rows, count * subspaces, tokenStride * subspaces),
    scores: rowsExtent(rows * scoreRows(group, reduce), 4 * count, 4 * scoreStride),
  }),
  reference({ ints, reals: { scale }, bytes }) {
    const { rows, group, count, headDim, subspaces, centroids, tokenStride, scoreStride, reduce } = ints;
    const queries = fromBf16(bytes('queries'), rows * group * headDim);
    const books = f32View(bytes('books'));
    const codes = bytes('codes');
    const out = f32View(bytes('scores'));
    const channels = headDim / subspaces;
    for (let row = 0; row < rows; row++) {
      const scores = Array.from({ length: group }, (_, g) =>
        Float64Array.from({ length: count }, (_, i) => {
          let sum = 0;
          for (let c = 0; c < headDim; c++) {
            const s = Math.floor(c / channels);
            const centroid = codes[(row * tokenStride + i) * subspaces + s];
            const at = ((row * subspaces + s) * centroids + centroid) * channels + (c % channels);
            sum += queries[(row * group + g) * headDim + c] * books[at];
          }
          return scale * sum;
        }),
      );
      writeScores(scores, reduce, out, row * scoreRows(group, reduce) * scoreStride, scoreStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const group = random.among([1, 4, random.integer(1, 17)]);
    const headDim = random.among([64, 80, 128]);
    const subspaces = random.among([1, 2, 4, 16]);
    const centroids = random.among([16, 64, 256, random.integer(1, 60)]);
    const count = random.integer(1, 150);
    const tokenStride = count + random.integer(0, 3);
    const scoreStride = count + random.integer(0, 3);
    const reduce = random.integer(0, 3);
    const codes = Uint8Array.from({ length: rows * tokenStride * subspaces }, () =>
      random.integer(0, centroids - 1),
    );
    const bytes = 4 * rows * scoreRows(group, reduce) * scoreStride;
    return {
      label: `pq-score rows ${rows} group ${group} count ${count} headDim ${headDim} ${subspaces} x ${centroids}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        books: { tier: 'hbm', data: randomF32(random, rows * centroids * headDim) },
        codes: { tier: 'hbm', data: codes },
        scores: { tier: 'hbm', data: bytes },
      },
      ints: { rows, group, count, headDim, subspaces, centroids, tokenStride, scoreStride, reduce },
      reals: { scale: 1 / Math.sqrt(headDim) },
      outputs: [{ ref: 'scores', bytes, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
