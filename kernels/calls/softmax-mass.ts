/**
 * Softmax of each query's scores, then one value a group: scores f32 [rows, group, scoreStride], of which the first `count`
 * of each query count; mass f32 [rows, massStride]; `reduce` as REDUCE of group-scores.ts, not 0; group <= 32. What
 * ShadowKV (arXiv 2410.21465, max over the group) and PQCache (arXiv 2407.12820, sum) rank by.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View } from '../floats.ts';
import { randomF32, writeScores } from '../group-scores.ts';

export const call = {
  name: 'softmax-mass',
  refs: ['scores', 'mass'],
  writes: ['mass'],
  ints: ['rows', 'group', 'count', 'scoreStride', 'massStride', 'reduce'],
  reals: [],
  extents: ({ rows, group, count, scoreStride, massStride }) => ({
    scores: rowsExtent(rows * group, 4 * count, 4 * scoreStride),
    mass: rowsExtent(rows, 4 * count, 4 * massStride),
  }),
  reference({ ints: { rows, group, count, scoreStride, massStride, reduce }, bytes }) {
    const scores = f32View(bytes('scores'));
    const mass = f32View(bytes('mass'));
    for (let row = 0; row < rows; row++) {
      const shares = Array.from({ length: group }, (_, g) => {
        const at = (row * group + g) * scoreStride;
        const own = Float64Array.from(scores.subarray(at, at + count));
        const largest = own.reduce((a, b) => Math.max(a, b));
        const weights = own.map((score) => Math.exp(score - largest));
        const sum = weights.reduce((a, b) => a + b);
        return weights.map((weight) => weight / sum);
      });
      writeScores(shares, reduce, mass, row * massStride, massStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const group = random.among([1, 4, 16, random.integer(1, 32)]);
    const count = random.among([random.integer(1, 300), random.integer(301, 9000)]);
    const scoreStride = count + random.integer(0, 3);
    const massStride = count + random.integer(0, 3);
    const reduce = random.integer(1, 3);
    const bytes = 4 * rows * massStride;
    return {
      label: `softmax-mass rows ${rows} group ${group} count ${count} reduce ${reduce}`,
      buffers: {
        scores: { tier: 'hbm', data: randomF32(random, rows * group * scoreStride, 4) },
        mass: { tier: 'hbm', data: bytes },
      },
      ints: { rows, group, count, scoreStride, massStride, reduce },
      outputs: [{ ref: 'mass', bytes, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
