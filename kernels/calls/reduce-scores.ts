/**
 * Scores of heads become one a token: scores f32 [rows, group, scoreStride], of which the first `count` of each head count;
 * out f32 [rows, outStride]; `reduce` as REDUCE of group-scores.ts, not 0. Row = what one choice is made for: a sequence
 * whose layers share it (CURRENTF/Sparse-vLLM engine/sparse_controller.py takes the largest of all heads).
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View } from '../floats.ts';
import { randomF32, writeScores } from '../group-scores.ts';

export const call = {
  name: 'reduce-scores',
  refs: ['scores', 'out'],
  writes: ['out'],
  ints: ['rows', 'group', 'count', 'scoreStride', 'outStride', 'reduce'],
  reals: [],
  extents: ({ rows, group, count, scoreStride, outStride }) => ({
    scores: rowsExtent(rows * group, 4 * count, 4 * scoreStride),
    out: rowsExtent(rows, 4 * count, 4 * outStride),
  }),
  reference({ ints: { rows, group, count, scoreStride, outStride, reduce }, bytes }) {
    const scores = f32View(bytes('scores'));
    const out = f32View(bytes('out'));
    for (let row = 0; row < rows; row++) {
      const heads = Array.from({ length: group }, (_, head) => {
        const at = (row * group + head) * scoreStride;
        return Float64Array.from(scores.subarray(at, at + count));
      });
      writeScores(heads, reduce, out, row * outStride, outStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const group = random.among([1, 8, 32, random.integer(1, 70)]);
    const count = random.among([random.integer(1, 300), random.integer(301, 5000)]);
    const scoreStride = count + random.integer(0, 3);
    const outStride = count + random.integer(0, 3);
    const reduce = random.integer(1, 3);
    const bytes = 4 * rows * outStride;
    return {
      label: `reduce-scores rows ${rows} group ${group} count ${count} reduce ${reduce}`,
      buffers: {
        scores: { tier: 'hbm', data: randomF32(random, rows * group * scoreStride, 4) },
        out: { tier: 'hbm', data: bytes },
      },
      ints: { rows, group, count, scoreStride, outStride, reduce },
      outputs: [{ ref: 'out', bytes, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
