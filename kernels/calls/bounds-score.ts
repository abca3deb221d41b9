/**
 * Upper bounds of q·k over pages: the sum over channels of q times the page's maximum where q is positive, its minimum
 * where it is negative. queries bf16 [rows, group, headDim], bounds bf16 [rows, boundStride, 2, headDim] as page-bounds
 * writes them, scores f32 [rows, group or 1, scoreStride] of which the first `pages` are written; `reduce` as REDUCE of
 * group-scores.ts. Row = sequence x KV head; group <= 32; headDim a multiple of 8. Source: Quest, arXiv 2406.10774, 3.3.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, fromBf16 } from '../floats.ts';
import { randomBf16, scoreRows, writeScores } from '../group-scores.ts';

export const call = {
  name: 'bounds-score',
  refs: ['queries', 'bounds', 'scores'],
  writes: ['scores'],
  ints: ['rows', 'group', 'pages', 'headDim', 'boundStride', 'scoreStride', 'reduce'],
  reals: [],
  extents: ({ rows, group, pages, headDim, boundStride, scoreStride, reduce }) => ({
    queries: 2 * rows * group * headDim,
    bounds: rowsExtent(rows, 4 * headDim * pages, 4 * headDim * boundStride),
    scores: rowsExtent(rows * scoreRows(group, reduce), 4 * pages, 4 * scoreStride),
  }),
  reference({ ints: { rows, group, pages, headDim, boundStride, scoreStride, reduce }, bytes }) {
    const queries = fromBf16(bytes('queries'), rows * group * headDim);
    const bounds = fromBf16(bytes('bounds'), rows * boundStride * 2 * headDim);
    const out = f32View(bytes('scores'));
    for (let row = 0; row < rows; row++) {
      const scores = Array.from({ length: group }, (_, g) =>
        Float64Array.from({ length: pages }, (_, page) => {
          const at = (row * boundStride + page) * 2 * headDim;
          let sum = 0;
          for (let c = 0; c < headDim; c++) {
            const q = queries[(row * group + g) * headDim + c];
            sum += q * bounds[q > 0 ? at + c : at + headDim + c];
          }
          return sum;
        }),
      );
      writeScores(scores, reduce, out, row * scoreRows(group, reduce) * scoreStride, scoreStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const group = random.among([1, 4, 8, random.integer(1, 17)]);
    const pages = random.integer(1, 200);
    const headDim = random.among([64, 80, 128, 256]);
    const boundStride = pages + random.integer(0, 2);
    const scoreStride = pages + random.integer(0, 2);
    const reduce = random.integer(0, 3);
    const bytes = 4 * rows * scoreRows(group, reduce) * scoreStride;
    return {
      label: `bounds-score rows ${rows} group ${group} pages ${pages} headDim ${headDim} reduce ${reduce}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        bounds: { tier: 'hbm', data: randomBf16(random, rows * boundStride * 2 * headDim) },
        scores: { tier: 'hbm', data: bytes },
      },
      ints: { rows, group, pages, headDim, boundStride, scoreStride, reduce },
      outputs: [{ ref: 'scores', bytes, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
