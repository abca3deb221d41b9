/** Top-k: rows, candidates, chosen. */
import { selectOf } from '../../sim/timing/cost-cases.ts';
import { type Bounds, type Microbench, passesFor, powers, repeated, type Site } from './microbench.ts';

/**
 * Lengths beside powers of two, at which the way to share a row changes; and one in so many is chosen: few are found by
 * their groups' maxima, many by sweeps of all scores, and what is between depends on the scores.
 */
const CASES = [
  { step: 17 / 16, chosen: 64 },
  { step: 5 / 4, chosen: 4 },
  { step: 3 / 2, chosen: 64 },
];
/** Rows that no block shares take about as long whatever their number, while multiprocessors are left. */
const SHORT = 8192;
const SHORT_ROWS = [1, 8, 64, 256];
/** Scores are selected from where they were just written: no more of them than caches hold, or little more. */
const MOST_BYTES = 2 ** 26;

const siteOf = (bounds: Bounds, rows: number, of: number, k: number): Site => {
  const passes = passesFor(rows * of * 4, bounds, 16);
  return {
    id: `${rows} x ${k} of ${of}`,
    operations: [selectOf(rows, of, k)],
    passes,
    options: { graph: true },
    fresh: true,
    build: (layout) =>
      repeated(
        passes,
        () => ({
          kernel: 'topk',
          // Nothing writes numbers of another kind there: what takes how long depends on them.
          refs: { scores: layout.place('kv', rows * of * 4), ids: layout.place('outputs', rows * k * 4) },
          ints: { rows, of, k, scoreStride: of, mapStride: 0, idStride: k },
        }),
        'compute',
      ),
  };
};

export const microbench = {
  name: 'select',
  number: 10,
  title: 'top-k',
  kernels: ['topk'],
  sites: (bounds) =>
    [1, 4, 8, 16, 32, 64, 128, 256].flatMap((rows) =>
      powers(256, 2 ** 20, 2)
        .flatMap((size) => CASES.map(({ step, chosen }) => ({ of: step * size, chosen })))
        .filter(({ of }) => rows * of * 4 <= Math.min(MOST_BYTES, bounds.hbmBytes / 32))
        .filter(({ of }) => of > SHORT || SHORT_ROWS.includes(rows))
        .map(({ of, chosen }) => siteOf(bounds, rows, of, Math.ceil(of / chosen))),
    ),
} satisfies Microbench;
