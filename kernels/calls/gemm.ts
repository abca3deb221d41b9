/**
 * Projection of a few tokens: out [m, n] = x [m, k] times the transpose of weights [n, k], row-major bf16, sums in f32
 * (outType 0 f32, 1 bf16). k is a multiple of 8. units: multiprocessors or threads to use, 0 = all.
 * Decode projections read each weight once: for small m the floor is weights' bytes over memory bandwidth.
 */
import type { KernelSpec } from '../calls.ts';
import { bf16Of, f32View, ofBf16, toBf16, u16View } from '../floats.ts';

export const call = {
  name: 'gemm',
  refs: ['x', 'weights', 'out'],
  writes: ['out'],
  ints: ['m', 'n', 'k', 'outType', 'units'],
  reals: [],
  extents: ({ m, n, k, outType }) => ({
    x: 2 * m * k,
    weights: 2 * n * k,
    out: m * n * (outType === 0 ? 4 : 2),
  }),
  reference({ ints: { m, n, k, outType }, bytes }) {
    const x = Float64Array.from(u16View(bytes('x')).subarray(0, m * k), ofBf16);
    const weights = Float64Array.from(u16View(bytes('weights')).subarray(0, n * k), ofBf16);
    const out = bytes('out');
    for (let row = 0; row < m; row++)
      for (let column = 0; column < n; column++) {
        let sum = 0;
        for (let i = 0; i < k; i++) sum += x[row * k + i] * weights[column * k + i];
        if (outType === 0) f32View(out)[row * n + column] = sum;
        else u16View(out)[row * n + column] = bf16Of(sum);
      }
  },
  randomCase(random) {
    const m = random.among([1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 100]);
    const n = random.among([1, 16, 40, 129, 200]);
    const k = random.among([8, 64, 136, 256, 520]);
    const outType = random.integer(0, 1);
    const numbers = (count: number) => toBf16(Float64Array.from({ length: count }, () => random.normal()));
    const outBytes = m * n * (outType === 0 ? 4 : 2);
    return {
      label: `gemm m ${m} n ${n} k ${k} outType ${outType}`,
      buffers: {
        x: { tier: 'hbm', data: numbers(m * k) },
        weights: { tier: 'hbm', data: numbers(n * k) },
        out: { tier: 'hbm', data: outBytes },
      },
      ints: { m, n, k, outType, units: 0 },
      outputs: [
        {
          ref: 'out',
          bytes: outBytes,
          type: outType === 0 ? 'f32' : 'bf16',
          tolerance: outType === 0 ? 1e-4 : 5e-3,
        },
      ],
    };
  },
} satisfies KernelSpec;
