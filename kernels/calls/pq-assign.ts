/**
 * Product quantisation of keys of tokens [from, to) of each row: codes u8 [rows, tokenStride, subspaces] = the nearest
 * (Euclidean) of `centroids` <= 256 centroids in each subspace, the first among equals. Keys lie in pieces as in dot-score;
 * books f32 [rows, subspaces, centroids, headDim / subspaces]. Jégou et al., doi:10.1109/TPAMI.2010.57; HugoZHL/PQCache.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, fromBf16, u32View } from '../floats.ts';
import { randomBf16, randomF32, shuffled, u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'pq-assign',
  refs: ['keys', 'pieces', 'books', 'codes'],
  writes: ['codes'],
  ints: [
    'rows',
    'from',
    'to',
    'headDim',
    'subspaces',
    'centroids',
    'pieceVectors',
    'pieceStride',
    'pieceBytes',
    'tokenStride',
  ],
  reals: [],
  optional: ['pieces'],
  extents: ({ rows, to, headDim, subspaces, centroids, pieceVectors, pieceStride, tokenStride }) => ({
    pieces: rowsExtent(rows, 4 * Math.ceil(to / pieceVectors), 4 * pieceStride),
    books: 4 * rows * centroids * headDim,
    codes: rowsExtent(rows, to * subspaces, tokenStride * subspaces),
  }),
  reference({ ints, bytes, has }) {
    const { rows, from, to, headDim, subspaces, centroids, pieceVectors, pieceStride, pieceBytes } = ints;
    const pieces = has('pieces') ? u32View(bytes('pieces')) : null;
    const books = f32View(bytes('books'));
    const codes = bytes('codes');
    const channels = headDim / subspaces;
    for (let row = 0; row < rows; row++)
      for (let token = from; token < to; token++) {
        const piece = row * pieceStride + Math.floor(token / pieceVectors);
        const first = (pieces?.[piece] ?? piece) * pieceBytes + (token % pieceVectors) * 2 * headDim;
        const key = fromBf16(bytes('keys').subarray(first), headDim);
        for (let s = 0; s < subspaces; s++) {
          let best = -Infinity;
          for (let centroid = 0; centroid < centroids; centroid++) {
            const at = ((row * subspaces + s) * centroids + centroid) * channels;
            let score = 0;
            for (let c = 0; c < channels; c++)
              score += books[at + c] * (key[s * channels + c] - books[at + c] / 2);
            if (score <= best) continue;
            best = score;
            codes[(row * ints.tokenStride + token) * subspaces + s] = centroid;
          }
        }
      }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const headDim = random.among([64, 80, 128]);
    const subspaces = random.among([1, 2, 4, 16]);
    const centroids = random.among([16, 64, 256, random.integer(1, 60)]);
    const to = random.integer(1, 50);
    const from = random.integer(0, to - 1);
    const tokenStride = to + random.integer(0, 3);
    const pieceVectors = random.among([to, 16]);
    const pieceStride = Math.ceil(to / pieceVectors);
    const pieceBytes = pieceVectors * 2 * headDim * random.integer(1, 2);
    const bytes = rows * tokenStride * subspaces;
    const pieces = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * pieceStride)) } as const;
    return {
      label: `pq-assign rows ${rows} tokens ${from}..${to} headDim ${headDim} ${subspaces} x ${centroids}`,
      buffers: {
        keys: { tier: 'hbm', data: randomBf16(random, (rows * pieceStride * pieceBytes) / 2) },
        books: { tier: 'hbm', data: randomF32(random, rows * centroids * headDim) },
        codes: { tier: 'hbm', data: bytes },
        ...(random.integer(0, 1) === 1 ? { pieces } : {}),
      },
      ints: {
        rows,
        from,
        to,
        headDim,
        subspaces,
        centroids,
        pieceVectors,
        pieceStride,
        pieceBytes,
        tokenStride,
      },
      // Two centroids may be equally near but for rounding.
      outputs: [{ ref: 'codes', bytes, type: 'u8', tolerance: 2e-3 }],
    };
  },
} satisfies KernelSpec;
