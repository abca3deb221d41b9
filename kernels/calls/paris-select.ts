/**
 * The `k` keys that collide most: ids u32 [rows, idStride], of which the first k are written, ascending; equal scores go to
 * the earlier key. collisions u16 [rows, scoreStride] below 2047, of which the first `of` count; 1 <= k <= of. One count
 * per score and one pass over them (bucket top-k). amy-77/ParisKV collision_fused/collision.cu.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u16View, u32View } from '../floats.ts';

export const call = {
  name: 'paris-select',
  refs: ['collisions', 'ids'],
  ints: ['rows', 'of', 'k', 'scoreStride', 'idStride'],
  reals: [],
  extents: ({ rows, of, k, scoreStride, idStride }) => ({
    collisions: rowsExtent(rows, 2 * of, 2 * scoreStride),
    ids: rowsExtent(rows, 4 * k, 4 * idStride),
  }),
  reference({ ints: { rows, of, k, scoreStride, idStride }, bytes }) {
    const collisions = u16View(bytes('collisions'));
    const ids = u32View(bytes('ids'));
    for (let row = 0; row < rows; row++) {
      const own = collisions.subarray(row * scoreStride, row * scoreStride + of);
      const order = Uint32Array.from({ length: of }, (_, i) => i).sort((a, b) => own[b] - own[a] || a - b);
      ids.set(order.subarray(0, k).sort(), row * idStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 5);
    const of = random.among([random.integer(1, 100), random.integer(101, 30_000)]);
    const k = random.integer(1, of);
    const scoreStride = of + random.integer(0, 3);
    const idStride = k + random.integer(0, 2);
    const most = random.among([0, 30, 2046]);
    const collisions = Uint16Array.from({ length: rows * scoreStride }, () => random.integer(0, most));
    return {
      label: `paris-select rows ${rows} of ${of} k ${k}`,
      buffers: {
        collisions: { tier: 'hbm', data: new Uint8Array(collisions.buffer) },
        ids: { tier: 'hbm', data: 4 * rows * idStride },
      },
      ints: { rows, of, k, scoreStride, idStride },
      outputs: [{ ref: 'ids', bytes: 4 * rows * idStride, type: 'u32', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
