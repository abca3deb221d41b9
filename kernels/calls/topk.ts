/**
 * The k highest of each row of scores, as positions: scores f32 [rows, scoreStride] of which the first `of` count, ids
 * u32 [rows, idStride] of which the first k are written, ascending; equal scores go to the earlier position. With `map`
 * (u32 [rows, mapStride]) an id is what the map holds at the position (a page's place in a pool, say). No score is NaN.
 * 1 <= k <= of. Source: radix select, Alabi et al., doi:10.1145/2133803.2345676.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, u32View } from '../floats.ts';
import { shuffled, u32Bytes } from '../group-scores.ts';
import type { Random } from '../random.ts';

/** Scores of either sign, some of them equal, some rows all equal. */
const drawScores = (random: Random, count: number): Float32Array => {
  const kind = random.integer(0, 3);
  return Float32Array.from({ length: count }, () => {
    if (kind === 0) return random.normal();
    if (kind === 1) return random.integer(-4, 90);
    if (kind === 2) return Math.exp(10 * random.normal());
    return 0 * random.integer(-1, 0);
  });
};

export const call = {
  name: 'topk',
  refs: ['scores', 'map', 'ids'],
  writes: ['ids'],
  ints: ['rows', 'of', 'k', 'scoreStride', 'mapStride', 'idStride'],
  reals: [],
  optional: ['map'],
  extents: ({ rows, of, k, scoreStride, mapStride, idStride }) => ({
    scores: rowsExtent(rows, 4 * of, 4 * scoreStride),
    map: rowsExtent(rows, 4 * of, 4 * mapStride),
    ids: rowsExtent(rows, 4 * k, 4 * idStride),
  }),
  reference({ ints: { rows, of, k, scoreStride, mapStride, idStride }, bytes, has }) {
    const scores = f32View(bytes('scores'));
    const map = has('map') ? u32View(bytes('map')) : null;
    const ids = u32View(bytes('ids'));
    for (let row = 0; row < rows; row++) {
      const of0 = scores.subarray(row * scoreStride, row * scoreStride + of);
      const order = Uint32Array.from({ length: of }, (_, i) => i).sort((a, b) => of0[b] - of0[a] || a - b);
      order
        .subarray(0, k)
        .sort()
        .forEach((position, i) => {
          ids[row * idStride + i] = map === null ? position : map[row * mapStride + position];
        });
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 6);
    const of = [1, random.integer(2, 40), random.integer(41, 5000), random.integer(5001, 40_000)][
      random.integer(0, 3)
    ];
    const k = random.integer(1, of);
    const [scoreStride, mapStride, idStride] = [of, of, k].map((n) => n + random.integer(0, 1) * 3);
    const scores = drawScores(random, rows * scoreStride);
    const map = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * mapStride)) } as const;
    return {
      label: `topk rows ${rows} of ${of} k ${k}`,
      buffers: {
        scores: { tier: 'hbm', data: new Uint8Array(scores.buffer) },
        ids: { tier: 'hbm', data: 4 * rows * idStride },
        ...(random.integer(0, 1) === 1 ? { map } : {}),
      },
      ints: { rows, of, k, scoreStride, mapStride, idStride },
      outputs: [{ ref: 'ids', bytes: 4 * rows * idStride, type: 'u32', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
