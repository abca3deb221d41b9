/**
 * WG-KV's admission: where flags u8 [rows, window] has 1 at `slot`, the token in that slot of the row's ring is appended to
 * the row's pages and counts u32 [rows] goes up by one. Ring and pages are bf16 pages of one pool (pageTokens rows of K,
 * then of V, headDim each, pageBytes apart): ring u32 [rows, window / pageTokens rounded up] and table u32
 * [rows, tableStride] name them; a row's table holds a page for the next token. Row = layer x sequence x KV head.
 * headDim a multiple of 8. EMCLab-Sinica/WG-KV src/modeling_layers.py.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u32View } from '../floats.ts';
import { randomBf16, shuffled, u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'ring-to-page',
  refs: ['pool', 'ring', 'flags', 'table', 'counts'],
  writes: ['pool', 'counts'],
  ints: ['rows', 'slot', 'window', 'pageTokens', 'headDim', 'pageBytes', 'tableStride'],
  reals: [],
  extents: ({ rows, window, pageTokens, tableStride }) => ({
    ring: 4 * rows * Math.ceil(window / pageTokens),
    flags: rows * window,
    table: rowsExtent(rows, 4, 4 * tableStride),
    counts: 4 * rows,
  }),
  reference({ ints: { rows, slot, window, pageTokens, headDim, pageBytes, tableStride }, bytes }) {
    const [pool, flags] = [bytes('pool'), bytes('flags')];
    const [ring, table, counts] = ['ring', 'table', 'counts'].map((ref) => u32View(bytes(ref)));
    const rowBytes = 2 * headDim;
    const placeOf = (page: number, token: number): number =>
      page * pageBytes + (token % pageTokens) * rowBytes;
    for (let row = 0; row < rows; row++) {
      if (flags[row * window + slot] !== 1) continue;
      const token = counts[row]++;
      const source = placeOf(
        ring[row * Math.ceil(window / pageTokens) + Math.floor(slot / pageTokens)],
        slot,
      );
      const target = placeOf(table[row * tableStride + Math.floor(token / pageTokens)], token);
      for (const half of [0, pageTokens * rowBytes])
        pool.copyWithin(target + half, source + half, source + half + rowBytes);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 30);
    const pageTokens = random.among([1, 16]);
    const headDim = random.among([64, 128]);
    const window = pageTokens * random.integer(1, 3);
    const tableStride = random.integer(1, 4);
    const pageBytes = pageTokens * 4 * headDim;
    const perRow = window / pageTokens + tableStride;
    const places = shuffled(random, rows * perRow);
    const poolBytes = places.length * pageBytes;
    const ring = places.subarray(0, (rows * window) / pageTokens);
    const counts = Array.from({ length: rows }, () => random.integer(0, tableStride * pageTokens - 1));
    return {
      label: `ring-to-page rows ${rows} page ${pageTokens} headDim ${headDim}`,
      buffers: {
        pool: { tier: 'hbm', data: randomBf16(random, poolBytes / 2) },
        ring: { tier: 'hbm', data: u32Bytes(ring) },
        flags: { tier: 'hbm', data: Uint8Array.from({ length: rows * window }, () => random.integer(0, 1)) },
        table: { tier: 'hbm', data: u32Bytes(places.subarray(ring.length)) },
        counts: { tier: 'hbm', data: u32Bytes(counts) },
      },
      ints: {
        rows,
        slot: random.integer(0, window - 1),
        window,
        pageTokens,
        headDim,
        pageBytes,
        tableStride,
      },
      outputs: [
        { ref: 'pool', bytes: poolBytes, type: 'u8', tolerance: 0 },
        { ref: 'counts', bytes: 4 * rows, type: 'u32', tolerance: 0 },
      ],
    };
  },
} satisfies KernelSpec;
