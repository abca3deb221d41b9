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
  writes: ['ids'],
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
      const last = Uint16Array.from(own).sort()[of - k];
      let ties = k;
      for (const count of own) if (count > last) ties--;
      let at = row * idStride;
      for (let i = 0; i < of; i++) if (own[i] > last || (own[i] === last && ties-- > 0)) ids[at++] = i;
    }
  },
  randomCase(random) {
    // Seldom more rows than a GPU has multiprocessors, and longer than their threads hold two bytes a count.
    const isLarge = random.integer(0, 15) === 0;
    const rows = isLarge ? random.integer(133, 150) : random.integer(1, 5);
    const of = isLarge
      ? random.integer(32_760, 34_000)
      : random.among([random.integer(1, 100), random.integer(101, 30_000)]);
    const k = random.integer(1, of);
    const scoreStride = of + random.integer(0, 3);
    const idStride = k + random.integer(0, 2);
    const most = random.among([0, 30, 254, 300, 2046]);
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
