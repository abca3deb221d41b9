/**
 * Estimated q·k of candidates from their 4-bit codes: estimates f32 [rows, estimateStride], of which the first `count` are
 * written, for the group's mean query. queries bf16 [rows, group, headDim], signs f32 [dim], candidates u32
 * [rows, idStride] (tokens), codes and weights as paris-encode writes them with the same strides. decoded (optional) bf16 [rows, count, dim]
 * receives the candidates' decoded rows, as the authors' kernel writes them back. amy-77/ParisKV rerank/rerank.cu.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { bf16Of, f16Of, f32View, ofF16, u16View, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';
import { CENTRES, paddedDim, rotatedQuery, SUBSPACE } from '../paris.ts';
import { randomSigns, randomStrides } from './paris-encode.ts';

export const call = {
  name: 'paris-rerank',
  refs: ['queries', 'signs', 'candidates', 'codes', 'weights', 'estimates', 'decoded'],
  writes: ['estimates', 'decoded'],
  ints: [
    'rows',
    'group',
    'headDim',
    'count',
    'idStride',
    'tokenStride',
    'estimateStride',
    'codeStride',
    'weightStride',
  ],
  reals: [],
  optional: ['decoded'],
  extents: ({ rows, group, headDim, count, idStride, estimateStride }) => ({
    queries: 2 * rows * group * headDim,
    signs: 4 * paddedDim(headDim),
    candidates: rowsExtent(rows, 4 * count, 4 * idStride),
    estimates: rowsExtent(rows, 4 * count, 4 * estimateStride),
    decoded: 2 * rows * count * paddedDim(headDim),
  }),
  reference({ ints, bytes, has }) {
    const { rows, group, headDim, count, idStride, tokenStride, estimateStride } = ints;
    const { codeStride, weightStride } = ints;
    const dim = paddedDim(headDim);
    const signs = f32View(bytes('signs')).subarray(0, dim);
    const candidates = u32View(bytes('candidates'));
    const [codes, weights] = [bytes('codes'), u16View(bytes('weights'))];
    const estimates = f32View(bytes('estimates'));
    const decoded = has('decoded') ? u16View(bytes('decoded')) : null;
    for (let row = 0; row < rows; row++) {
      const query = rotatedQuery(bytes('queries'), row, group, headDim, signs);
      for (let i = 0; i < count; i++) {
        const token = row * tokenStride + candidates[row * idStride + i];
        let sum = 0;
        for (let c = 0; c < dim; c++) {
          const code = (codes[token * codeStride + (c >> 1)] >> (4 * (c & 1))) & 15;
          const weight = ofF16(weights[(token * weightStride) / 2 + Math.floor(c / SUBSPACE)]);
          const value = CENTRES[code & 7] * (code & 8 ? -1 : 1) * weight;
          sum += query[c] * value;
          if (decoded !== null) decoded[(row * count + i) * dim + c] = bf16Of(value);
        }
        estimates[row * estimateStride + i] = sum;
      }
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const group = random.among([1, 4, 7, 16]);
    const headDim = random.among([64, 80, 128, 256]);
    const dim = paddedDim(headDim);
    const tokenStride = random.integer(10, 90);
    const count = random.integer(1, tokenStride);
    const [idStride, estimateStride] = [count + random.integer(0, 2), count + random.integer(0, 2)];
    const candidates = Uint32Array.from({ length: rows * idStride }, () =>
      random.integer(0, tokenStride - 1),
    );
    const tokens = rows * tokenStride;
    const { codeStride, weightStride } = randomStrides(random, dim);
    const codes = Uint8Array.from({ length: tokens * codeStride }, () => random.integer(0, 255));
    const weights = Uint16Array.from({ length: (tokens * weightStride) / 2 }, () =>
      f16Of(1 + random.uniform()),
    );
    const decodedBytes = 2 * rows * count * dim;
    const writesBack = random.integer(0, 1) === 1;
    return {
      label: `paris-rerank rows ${rows} group ${group} headDim ${headDim} count ${count}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        signs: { tier: 'hbm', data: randomSigns(random, dim) },
        candidates: { tier: 'hbm', data: u32Bytes(candidates) },
        codes: { tier: 'hbm', data: codes },
        weights: { tier: 'hbm', data: new Uint8Array(weights.buffer) },
        estimates: { tier: 'hbm', data: 4 * rows * estimateStride },
        ...(writesBack ? { decoded: { tier: 'hbm', data: decodedBytes } as const } : {}),
      },
      ints: {
        rows,
        group,
        headDim,
        count,
        idStride,
        tokenStride,
        estimateStride,
        codeStride,
        weightStride,
      },
      outputs: [
        { ref: 'estimates', bytes: 4 * rows * estimateStride, type: 'f32', tolerance: 1e-4 },
        ...(writesBack
          ? [{ ref: 'decoded', bytes: decodedBytes, type: 'bf16', tolerance: 1e-3 } as const]
          : []),
      ],
    };
  },
} satisfies KernelSpec;
