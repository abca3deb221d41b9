/**
 * K in int8 with one scale a channel and block, V in 4 bits with one scale and offset a token: the precision
 * pair that TTKV keeps in its slow tier (arXiv 2604.19769). Symmetric K because channel outliers keep their sign;
 * asymmetric V as in KIVI (arXiv 2402.02750).
 */
import type { Codec, CodedBlock } from '../codec.ts';

const encodeKeys = (keys: Float32Array, d: number, from: number, tokens: number) => {
  const codes = new Int8Array(tokens * d);
  const scales = new Float32Array(d);
  const peaks = new Float64Array(d);
  const rows = keys.subarray(from * d, (from + tokens) * d);
  for (let t = 0, i = 0; t < tokens; t++) {
    for (let c = 0; c < d; c++, i++) {
      const x = Math.abs(rows[i]);
      if (x > peaks[c]) peaks[c] = x;
    }
  }
  const inverses = peaks.map((peak) => (peak === 0 ? 0 : 127 / peak));
  for (let c = 0; c < d; c++) scales[c] = peaks[c] / 127;
  for (let t = 0, i = 0; t < tokens; t++) {
    for (let c = 0; c < d; c++, i++) codes[i] = Math.round(rows[i] * inverses[c]);
  }
  return { codes, scales };
};

const encodeValues = (values: Float32Array, d: number, from: number, tokens: number) => {
  const codes = new Uint8Array(tokens * d);
  const scales = new Float32Array(tokens * 2);
  for (let t = 0; t < tokens; t++) {
    const row = (from + t) * d;
    let lo = Infinity;
    let hi = -Infinity;
    for (let c = 0; c < d; c++) {
      const x = values[row + c];
      if (x < lo) lo = x;
      if (x > hi) hi = x;
    }
    const step = (hi - lo) / 15;
    scales[t * 2] = step;
    scales[t * 2 + 1] = lo;
    if (step === 0) continue;
    for (let c = 0; c < d; c++) codes[t * d + c] = Math.round((values[row + c] - lo) / step);
  }
  return { codes, scales };
};

export const codec: Codec = {
  name: 'k8v4',
  title: 'int8 keys per channel, 4-bit values per token',
  kBytesPerToken: (headDim) => headDim,
  vBytesPerToken: (headDim) => headDim / 2,
  scaleBytes: (headDim, tokens) => 2 * headDim + 4 * tokens,
  decodeFlopsPerToken: (headDim) => 3 * headDim,
  encode(keys, values, headDim, from, tokens): CodedBlock {
    const k = encodeKeys(keys, headDim, from, tokens);
    const v = encodeValues(values, headDim, from, tokens);
    return {
      tokens,
      decodeKeys(out) {
        const { codes, scales } = k;
        for (let t = 0, i = 0; t < tokens; t++) {
          for (let c = 0; c < headDim; c++, i++) out[i] = codes[i] * scales[c];
        }
      },
      decodeValues(out) {
        const { codes, scales } = v;
        for (let t = 0, i = 0; t < tokens; t++) {
          const step = scales[t * 2];
          const lo = scales[t * 2 + 1];
          for (let c = 0; c < headDim; c++, i++) out[i] = lo + codes[i] * step;
        }
      },
    };
  },
};
