/**
 * Log-sum-exp merge of partial attention: partials f32 [rows, parts, headDim + 2] hold o (not divided by l), m and l;
 * out f32 [rows, headDim] = sum exp(m_i - M) o_i / sum exp(m_i - M) l_i. A part with l = 0 attended to nothing.
 * Source: online softmax, Milakov and Gimelshein, arXiv 1805.02867; split-KV merge of FlashInfer, arXiv 2501.01005.
 */
import type { KernelSpec } from '../calls.ts';
import { f32View } from '../floats.ts';

export const call = {
  name: 'merge',
  refs: ['partials', 'out'],
  writes: ['out'],
  ints: ['rows', 'parts', 'headDim'],
  reals: [],
  extents: ({ rows, parts, headDim }) => ({
    partials: 4 * rows * parts * (headDim + 2),
    out: 4 * rows * headDim,
  }),
  reference({ ints: { rows, parts, headDim }, bytes }) {
    const partials = f32View(bytes('partials'));
    const out = f32View(bytes('out'));
    const width = headDim + 2;
    for (let row = 0; row < rows; row++) {
      const at = (part: number): number => (row * parts + part) * width;
      let max = -Infinity;
      for (let part = 0; part < parts; part++)
        if (partials[at(part) + headDim + 1] > 0) max = Math.max(max, partials[at(part) + headDim]);
      const sum = new Float64Array(headDim);
      let weight = 0;
      for (let part = 0; part < parts; part++) {
        const l = partials[at(part) + headDim + 1];
        if (l <= 0) continue;
        const factor = Math.exp(partials[at(part) + headDim] - max);
        weight += factor * l;
        for (let d = 0; d < headDim; d++) sum[d] += factor * partials[at(part) + d];
      }
      for (let d = 0; d < headDim; d++) out[row * headDim + d] = weight > 0 ? sum[d] / weight : 0;
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 40);
    const parts = random.integer(1, random.integer(0, 3) === 0 ? 70 : 9);
    const headDim = random.among([64, 80, 96, 128, 256]);
    const partials = new Float32Array(rows * parts * (headDim + 2));
    for (let i = 0; i < partials.length; i++) partials[i] = random.normal();
    for (let part = 0; part < rows * parts; part++) {
      partials[part * (headDim + 2) + headDim] = 10 * random.normal();
      partials[part * (headDim + 2) + headDim + 1] =
        random.integer(0, 4) === 0 ? 0 : 1 + 99 * random.uniform();
    }
    return {
      label: `merge rows ${rows} parts ${parts} headDim ${headDim}`,
      buffers: {
        partials: { tier: 'hbm', data: new Uint8Array(partials.buffer) },
        out: { tier: 'hbm', data: 4 * rows * headDim },
      },
      ints: { rows, parts, headDim },
      outputs: [{ ref: 'out', bytes: 4 * rows * headDim, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
