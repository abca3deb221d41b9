/**
 * How many scores of each row lie less than `alpha` below its largest: scores f32 [rows, scoreStride], of which the first
 * `count` of each row count; counts u32 [rows]. What InfiniGen sizes its choice by (arXiv 2406.19707;
 * snu-comparch/InfiniGen kv_selection_controller.py).
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, u32View } from '../floats.ts';
import { randomF32 } from '../group-scores.ts';

export const call = {
  name: 'near-count',
  refs: ['scores', 'counts'],
  writes: ['counts'],
  ints: ['rows', 'count', 'scoreStride'],
  reals: ['alpha'],
  extents: ({ rows, count, scoreStride }) => ({
    scores: rowsExtent(rows, 4 * count, 4 * scoreStride),
    counts: 4 * rows,
  }),
  reference({ ints: { rows, count, scoreStride }, reals: { alpha }, bytes }) {
    const scores = f32View(bytes('scores'));
    const counts = u32View(bytes('counts'));
    for (let row = 0; row < rows; row++) {
      const own = scores.subarray(row * scoreStride, row * scoreStride + count);
      // The threshold is a 32-bit number, as the scores are.
      const least = Math.fround(own.reduce((a, b) => Math.max(a, b)) - Math.fround(alpha));
      counts[row] = own.reduce((near, score) => (score > least ? near + 1 : near), 0);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 9);
    const count = random.among([random.integer(1, 300), random.integer(301, 20_000)]);
    const scoreStride = count + random.integer(0, 3);
    const alpha = random.among([0, 0.5, 4, 5]);
    return {
      label: `near-count rows ${rows} count ${count} alpha ${alpha}`,
      buffers: {
        scores: { tier: 'hbm', data: randomF32(random, rows * scoreStride, 3) },
        counts: { tier: 'hbm', data: 4 * rows },
      },
      ints: { rows, count, scoreStride },
      reals: { alpha },
      outputs: [{ ref: 'counts', bytes: 4 * rows, type: 'u32', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
