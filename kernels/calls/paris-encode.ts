/**
 * ParisKV's index of tokens [from, to) of each row: ids u8 [rows, tokenStride, dim / 8] (sign bytes), codes u8
 * [rows, tokenStride, dim / 2] (4 bits a channel, even channels low), weights f16 [rows, tokenStride, dim / 8], a token's
 * codes `codeStride` bytes after the last one's, a multiple of 4, and its weights `weightStride`, of 2, so that both may
 * lie in one row; counts u32 [rows, dim / 8, 256] go up by one for each id. Keys lie in pieces as in dot-score; signs f32
 * [dim] of the rotation, dim = headDim padded to a power of two from 64 to 1024. amy-77/ParisKV cache_hub/polar_cache.py.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f16Of, f32View, fromBf16, u16View, u32View } from '../floats.ts';
import { randomBf16, shuffled, u32Bytes } from '../group-scores.ts';
import { encodeSubspace, PATTERNS, paddedDim, rotated, SUBSPACE } from '../paris.ts';
import type { Random } from '../random.ts';

/** Random signs of a rotation, as bytes of f32. */
export const randomSigns = (random: Random, dim: number): Uint8Array =>
  new Uint8Array(Float32Array.from({ length: dim }, () => (random.integer(0, 1) === 0 ? -1 : 1)).buffer);

/** Bytes from a token's codes and weights to the next one's: packed, or both in one row. */
export const randomStrides = (
  random: Random,
  dim: number,
): { readonly codeStride: number; readonly weightStride: number } => {
  const [codeBytes, weightBytes] = [dim / 2, dim / 4];
  const row = codeBytes + weightBytes;
  return random.integer(0, 1) === 0
    ? { codeStride: codeBytes, weightStride: weightBytes }
    : { codeStride: row, weightStride: row };
};

export const call = {
  name: 'paris-encode',
  refs: ['keys', 'pieces', 'signs', 'ids', 'codes', 'weights', 'counts'],
  writes: ['ids', 'codes', 'weights', 'counts'],
  ints: [
    'rows',
    'from',
    'to',
    'headDim',
    'pieceVectors',
    'pieceStride',
    'pieceBytes',
    'tokenStride',
    'codeStride',
    'weightStride',
  ],
  reals: [],
  optional: ['pieces'],
  extents: ({ rows, to, headDim, pieceVectors, pieceStride, tokenStride, codeStride, weightStride }) => {
    const dim = paddedDim(headDim);
    const tokens = (rows - 1) * tokenStride + to;
    return {
      pieces: rowsExtent(rows, 4 * Math.ceil(to / pieceVectors), 4 * pieceStride),
      signs: 4 * dim,
      ids: rowsExtent(rows, (to * dim) / 8, (tokenStride * dim) / 8),
      codes: rowsExtent(tokens, dim / 2, codeStride),
      weights: rowsExtent(tokens, dim / 4, weightStride),
      counts: (rows * 4 * PATTERNS * dim) / 8,
    };
  },
  reference({ ints, bytes, has }) {
    const { rows, from, to, headDim, pieceVectors, pieceStride, pieceBytes } = ints;
    const { tokenStride, codeStride, weightStride } = ints;
    const dim = paddedDim(headDim);
    const subspaces = dim / SUBSPACE;
    const signs = f32View(bytes('signs')).subarray(0, dim);
    const pieces = has('pieces') ? u32View(bytes('pieces')) : null;
    const [ids, codes, weights] = [bytes('ids'), bytes('codes'), u16View(bytes('weights'))];
    const counts = u32View(bytes('counts'));
    for (let row = 0; row < rows; row++)
      for (let token = from; token < to; token++) {
        const piece = row * pieceStride + Math.floor(token / pieceVectors);
        const first = (pieces?.[piece] ?? piece) * pieceBytes + (token % pieceVectors) * 2 * headDim;
        const x = rotated(fromBf16(bytes('keys').subarray(first), headDim), signs);
        for (let b = 0; b < subspaces; b++) {
          const part = encodeSubspace(x, b * SUBSPACE);
          const at = row * tokenStride + token;
          ids[at * subspaces + b] = part.pattern;
          weights[(at * weightStride) / 2 + b] = f16Of(part.weight);
          for (let i = 0; i < 4; i++)
            codes[at * codeStride + 4 * b + i] = part.codes[2 * i] | (part.codes[2 * i + 1] << 4);
          counts[(row * subspaces + b) * PATTERNS + part.pattern]++;
        }
      }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const headDim = random.among([64, 80, 128, 256]);
    const dim = paddedDim(headDim);
    const to = random.integer(1, 60);
    const from = random.integer(0, to - 1);
    const tokenStride = to + random.integer(0, 3);
    const pieceVectors = random.among([to, 16]);
    const pieceStride = Math.ceil(to / pieceVectors);
    const pieceBytes = pieceVectors * 2 * headDim * random.integer(1, 2);
    const tokens = rows * tokenStride;
    const { codeStride, weightStride } = randomStrides(random, dim);
    const pieces = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * pieceStride)) } as const;
    const countBytes = (rows * 4 * PATTERNS * dim) / 8;
    return {
      label: `paris-encode rows ${rows} tokens ${from}..${to} headDim ${headDim}`,
      buffers: {
        keys: { tier: 'hbm', data: randomBf16(random, (rows * pieceStride * pieceBytes) / 2) },
        signs: { tier: 'hbm', data: randomSigns(random, dim) },
        ids: { tier: 'hbm', data: (tokens * dim) / 8 },
        codes: { tier: 'hbm', data: tokens * codeStride },
        weights: { tier: 'hbm', data: tokens * weightStride },
        counts: { tier: 'hbm', data: new Uint8Array(countBytes) },
        ...(random.integer(0, 1) === 1 ? { pieces } : {}),
      },
      ints: {
        rows,
        from,
        to,
        headDim,
        pieceVectors,
        pieceStride,
        pieceBytes,
        tokenStride,
        codeStride,
        weightStride,
      },
      outputs: [
        // A component at a threshold may take either level; a sign is lost only by a component that is nearly 0.
        { ref: 'ids', bytes: (tokens * dim) / 8, type: 'u8', tolerance: 1e-3 },
        { ref: 'codes', bytes: tokens * codeStride, type: 'u8', tolerance: 1e-3 },
        { ref: 'weights', bytes: tokens * weightStride, type: 'f16', tolerance: 1e-3 },
        { ref: 'counts', bytes: countBytes, type: 'u32', tolerance: 1e-3 },
      ],
    };
  },
} satisfies KernelSpec;
