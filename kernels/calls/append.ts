/**
 * Writes new tokens into pages: k and v [rows, headDim] of 2-byte numbers go to pool, a pool of raw pages (formats.ts),
 * at slots[row] (u32) = page * pageTokens + place in the page. Slots differ from each other; a slot of 2^32 - 1 writes
 * nothing.
 */
import type { KernelSpec } from '../calls.ts';
import { toBf16, u32View } from '../floats.ts';
import { distinct } from './random-rows.ts';

export const call = {
  name: 'append',
  refs: ['k', 'v', 'pool', 'slots'],
  writes: ['pool'],
  ints: ['rows', 'headDim', 'pageTokens', 'pageStride'],
  reals: [],
  extents: ({ rows, headDim }) => ({
    k: 2 * rows * headDim,
    v: 2 * rows * headDim,
    pool: 0,
    slots: 4 * rows,
  }),
  reference({ ints: { rows, headDim, pageTokens, pageStride }, bytes }) {
    const [k, v, pool] = ['k', 'v', 'pool'].map(bytes);
    const slots = u32View(bytes('slots'));
    const rowBytes = 2 * headDim;
    for (let row = 0; row < rows; row++) {
      if (slots[row] === 0xffffffff) continue;
      const page = Math.floor(slots[row] / pageTokens) * pageStride;
      const place = slots[row] % pageTokens;
      const from = row * rowBytes;
      pool.set(k.subarray(from, from + rowBytes), page + place * rowBytes);
      pool.set(v.subarray(from, from + rowBytes), page + (pageTokens + place) * rowBytes);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 70);
    const headDim = random.among([64, 80, 128]);
    const pageTokens = random.among([1, 5, 16, 64]);
    const pages = Math.ceil(rows / pageTokens) + random.integer(0, 2);
    const pageStride = 4 * pageTokens * headDim;
    const slots = distinct(random, pages * pageTokens, pages * pageTokens);
    if (random.integer(0, 1) === 0) slots[random.integer(0, rows - 1)] = 0xffffffff;
    const numbers = () => toBf16(Float64Array.from({ length: rows * headDim }, () => random.normal()));
    return {
      label: `append rows ${rows} headDim ${headDim} pageTokens ${pageTokens}`,
      buffers: {
        k: { tier: 'hbm', data: numbers() },
        v: { tier: 'hbm', data: numbers() },
        pool: { tier: 'hbm', data: pages * pageStride },
        slots: { tier: 'hbm', data: new Uint8Array(slots.slice(0, rows).buffer) },
      },
      ints: { rows, headDim, pageTokens, pageStride },
      outputs: [{ ref: 'pool', bytes: pages * pageStride, type: 'bf16', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
