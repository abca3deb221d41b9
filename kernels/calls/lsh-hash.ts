/**
 * Hash codes by signs of random projections: bit h of codes u16 [rows, tables, codeStride] at [row, table, i] is 1 where
 * projection (table · hashes + h) times vector i of the row exceeds its offset. Vectors lie in pieces as in dot-score;
 * projections bf16 [tables · hashes, headDim]; offsets f32 [rows, tables · hashes] (optional, else 0) are the projections of
 * what was taken off the vectors (the mean key). hashes <= 16. MagicPIG, arXiv 2410.16179; sim/policy/lsh-index.ts.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, fromBf16, u16View, u32View } from '../floats.ts';
import { randomBf16, randomF32, shuffled, u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'lsh-hash',
  refs: ['vectors', 'pieces', 'projections', 'offsets', 'codes'],
  writes: ['codes'],
  ints: [
    'rows',
    'count',
    'headDim',
    'tables',
    'hashes',
    'pieceVectors',
    'pieceStride',
    'pieceBytes',
    'codeStride',
  ],
  reals: [],
  optional: ['pieces', 'offsets'],
  extents: ({ rows, count, headDim, tables, hashes, pieceVectors, pieceStride, codeStride }) => ({
    pieces: rowsExtent(rows, 4 * Math.ceil(count / pieceVectors), 4 * pieceStride),
    projections: 2 * tables * hashes * headDim,
    offsets: 4 * rows * tables * hashes,
    codes: rowsExtent(rows * tables, 2 * count, 2 * codeStride),
  }),
  reference({ ints, bytes, has }) {
    const { rows, count, headDim, tables, hashes, pieceVectors, pieceStride, pieceBytes, codeStride } = ints;
    const pieces = has('pieces') ? u32View(bytes('pieces')) : null;
    const projections = fromBf16(bytes('projections'), tables * hashes * headDim);
    const offsets = has('offsets') ? f32View(bytes('offsets')) : null;
    const codes = u16View(bytes('codes'));
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < count; i++) {
        const piece = row * pieceStride + Math.floor(i / pieceVectors);
        const first = (pieces?.[piece] ?? piece) * pieceBytes + (i % pieceVectors) * 2 * headDim;
        const vector = fromBf16(bytes('vectors').subarray(first), headDim);
        for (let table = 0; table < tables; table++) {
          let code = 0;
          for (let h = 0; h < hashes; h++) {
            const at = table * hashes + h;
            let product = -(offsets?.[row * tables * hashes + at] ?? 0);
            for (let c = 0; c < headDim; c++) product += projections[at * headDim + c] * vector[c];
            if (product > 0) code |= 1 << h;
          }
          codes[(row * tables + table) * codeStride + i] = code;
        }
      }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const count = random.among([random.integer(1, 8), random.integer(9, 80)]);
    const headDim = random.among([16, 64, 80, 128]);
    const tables = random.integer(1, 20);
    const hashes = random.among([random.integer(1, 16), 10]);
    const pieceVectors = random.among([count, 16]);
    const pieceStride = Math.ceil(count / pieceVectors);
    const pieceBytes = pieceVectors * 2 * headDim * random.integer(1, 2);
    const codeStride = count + random.integer(0, 3);
    const bytes = 2 * rows * tables * codeStride;
    const pieces = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * pieceStride)) } as const;
    const offsets = { tier: 'hbm', data: randomF32(random, rows * tables * hashes) } as const;
    return {
      label: `lsh-hash rows ${rows} count ${count} headDim ${headDim} ${tables} x ${hashes}`,
      buffers: {
        vectors: { tier: 'hbm', data: randomBf16(random, (rows * pieceStride * pieceBytes) / 2) },
        projections: { tier: 'hbm', data: randomBf16(random, tables * hashes * headDim) },
        codes: { tier: 'hbm', data: bytes },
        ...(random.integer(0, 1) === 1 ? { pieces } : {}),
        ...(random.integer(0, 1) === 1 ? { offsets } : {}),
      },
      ints: { rows, count, headDim, tables, hashes, pieceVectors, pieceStride, pieceBytes, codeStride },
      // A product that is 0 but for rounding may have either sign.
      outputs: [{ ref: 'codes', bytes, type: 'u8', tolerance: 1e-3 }],
    };
  },
} satisfies KernelSpec;
