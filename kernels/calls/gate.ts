/**
 * WG-KV's write gate: scores f32 [tokens, kvHeads] = σ(w2·GELU(W1 x + b1) + b2), x = the keys before and after rotation,
 * each root-mean-square normalised and weighted. before, after bf16 [tokens, kvHeads, headDim]; norms bf16 [2, headDim];
 * w1 bf16 [kvHeads, hidden, 2 headDim]; b1, w2 bf16 [kvHeads, hidden]; b2 bf16 [kvHeads]; real `epsilon` of the norm. x is
 * rounded to bf16 before the product. headDim and hidden multiples of 8. EMCLab-Sinica/WG-KV src/modeling_layers.py.
 */
import type { KernelSpec } from '../calls.ts';
import { bf16Of, f32View, fromBf16, ofBf16, toBf16 } from '../floats.ts';
import { randomBf16 } from '../group-scores.ts';

/** GELU by the error function, whose error here is below 1.5e-7 (Abramowitz and Stegun 7.1.26). */
const gelu = (x: number): number => {
  const size = Math.abs(x) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * size);
  const series = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];
  const tail = series.reduceRight((sum, factor) => (sum + factor) * t, 0) * Math.exp(-size * size);
  return (x * (1 + Math.sign(x) * (1 - tail))) / 2;
};

/** A key's part of the input. */
const normalised = (key: Float32Array, weights: Float32Array, epsilon: number): Float64Array => {
  const square = key.reduce((sum, value) => sum + value * value, 0) / key.length;
  return Float64Array.from(key, (value, c) =>
    ofBf16(bf16Of((value / Math.sqrt(square + epsilon)) * weights[c])),
  );
};

export const call = {
  name: 'gate',
  refs: ['before', 'after', 'norms', 'w1', 'b1', 'w2', 'b2', 'scores'],
  writes: ['scores'],
  ints: ['tokens', 'kvHeads', 'headDim', 'hidden'],
  reals: ['epsilon'],
  extents: ({ tokens, kvHeads, headDim, hidden }) => ({
    before: 2 * tokens * kvHeads * headDim,
    after: 2 * tokens * kvHeads * headDim,
    norms: 4 * headDim,
    w1: 4 * kvHeads * hidden * headDim,
    b1: 2 * kvHeads * hidden,
    w2: 2 * kvHeads * hidden,
    b2: 2 * kvHeads,
    scores: 4 * tokens * kvHeads,
  }),
  reference({ ints: { tokens, kvHeads, headDim, hidden }, reals: { epsilon }, bytes }) {
    const rows = (ref: string, width: number, at: number): Float32Array =>
      fromBf16(bytes(ref).subarray(2 * width * at), width);
    const scores = f32View(bytes('scores'));
    for (let head = 0; head < kvHeads; head++) {
      const w1 = rows('w1', 2 * hidden * headDim, head);
      const [b1, w2, b2] = [rows('b1', hidden, head), rows('w2', hidden, head), rows('b2', 1, head)];
      for (let token = 0; token < tokens; token++) {
        const at = token * kvHeads + head;
        const x = ['before', 'after'].flatMap((ref, i) => [
          ...normalised(rows(ref, headDim, at), rows('norms', headDim, i), epsilon),
        ]);
        let sum = b2[0];
        for (let h = 0; h < hidden; h++) {
          let unit = b1[h];
          for (let c = 0; c < x.length; c++) unit += w1[h * x.length + c] * x[c];
          sum += w2[h] * gelu(unit);
        }
        scores[at] = 1 / (1 + Math.exp(-sum));
      }
    }
  },
  randomCase(random) {
    const tokens = random.among([1, 3, random.integer(1, 40)]);
    const kvHeads = random.integer(1, 3);
    const headDim = random.among([16, 64, 128]);
    const hidden = random.among([headDim, 48]);
    const scaled = (count: number, scale: number): Uint8Array =>
      toBf16(Float64Array.from({ length: count }, () => scale * random.normal()));
    const bytes = 4 * tokens * kvHeads;
    return {
      label: `gate tokens ${tokens} kvHeads ${kvHeads} headDim ${headDim} hidden ${hidden}`,
      buffers: {
        before: { tier: 'hbm', data: randomBf16(random, tokens * kvHeads * headDim) },
        after: { tier: 'hbm', data: randomBf16(random, tokens * kvHeads * headDim) },
        norms: { tier: 'hbm', data: randomBf16(random, 2 * headDim) },
        w1: { tier: 'hbm', data: scaled(2 * kvHeads * hidden * headDim, 0.1) },
        b1: { tier: 'hbm', data: randomBf16(random, kvHeads * hidden) },
        w2: { tier: 'hbm', data: scaled(kvHeads * hidden, 0.1) },
        b2: { tier: 'hbm', data: randomBf16(random, kvHeads) },
        scores: { tier: 'hbm', data: bytes },
      },
      ints: { tokens, kvHeads, headDim, hidden },
      reals: { epsilon: 1e-6 },
      // An input that lies between two bf16 may be rounded to either.
      outputs: [{ ref: 'scores', bytes, type: 'f32', tolerance: 2e-3 }],
    };
  },
} satisfies KernelSpec;
