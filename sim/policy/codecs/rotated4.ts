/**
 * 4 bits on rotated rows: ParisKV's rerank code (sign, 3-bit magnitude, one bf16 weight per 8 channels) used as a stored
 * form of keys and values. ParisKV itself codes keys only, to rank them, and attends to raw rows.
 */
import type { Codec } from '../codec.ts';
import { CENTRES, codeSubvector, paddedDim, Rotation, SUBSPACE } from '../rotated-code.ts';

const rowBytes = (headDim: number): number => paddedDim(headDim) / 2;

/** bf16 keeps 8 significant bits; the weight is rounded to them by splitting. */
const roundToBfloat = (x: number): number => {
  const spread = Math.fround(65537 * x);
  return Math.fround(spread - Math.fround(spread - Math.fround(x)));
};

const codeRows = (rows: Float32Array, headDim: number, from: number, tokens: number) => {
  const rotation = new Rotation(headDim);
  const { dim } = rotation;
  const subspaces = dim / SUBSPACE;
  const x = new Float64Array(dim);
  const codes = new Uint8Array(tokens * dim);
  const weights = new Float32Array(tokens * subspaces);
  for (let t = 0; t < tokens; t++) {
    rotation.apply(rows, (from + t) * headDim, x);
    for (let b = 0; b < subspaces; b++)
      weights[t * subspaces + b] = roundToBfloat(
        codeSubvector(x, b * SUBSPACE, codes, t * dim + b * SUBSPACE),
      );
  }
  return (out: Float32Array): void => {
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < dim; c++) {
        const code = codes[t * dim + c];
        const size = CENTRES[code & 7] * weights[t * subspaces + Math.floor(c / SUBSPACE)];
        x[c] = code & 8 ? -size : size;
      }
      rotation.invert(x, out, t * headDim);
    }
  };
};

export const codec: Codec = {
  name: 'rotated4',
  title: '4-bit rotated keys and values, one weight per 8 channels',
  kBytesPerToken: rowBytes,
  vBytesPerToken: rowBytes,
  scaleBytes: (headDim, tokens) => tokens * 2 * 2 * (paddedDim(headDim) / SUBSPACE),
  // Two Hadamard transforms of n·log2(n) additions and a scaling of each element.
  decodeFlopsPerToken: (headDim) => {
    const dim = paddedDim(headDim);
    return 2 * dim * (32 - Math.clz32(dim - 1) + 2);
  },
  encode: (keys, values, headDim, from, tokens) => ({
    tokens,
    decodeKeys: codeRows(keys, headDim, from, tokens),
    decodeValues: codeRows(values, headDim, from, tokens),
  }),
};
