/**
 * ShadowKV's rebuilding of keys: out bf16 [rows, count, headDim] = the product of the token's factors with the KV head's
 * directions, turned to the token's position. A row is one KV head of one sequence, `kvHeads` of them a sequence. chosen u32
 * [rows, count] names tokens of factors bf16 [sequences, tokens, rank]; directions bf16 [rows, headDim, rank]; turns bf16
 * [tokens, headDim] holds the cosines of a position, then its sines, of channels (i, i + headDim / 2) each.
 * Source: bytedance/ShadowKV, batch_gather_gemm_rotary_pos_emb (arXiv 2410.21465, section 4).
 */
import type { KernelSpec } from '../calls.ts';
import { bf16Of, fromBf16, toBf16, u16View, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'low-rank-rebuild',
  refs: ['chosen', 'factors', 'directions', 'turns', 'out'],
  writes: ['out'],
  ints: ['rows', 'kvHeads', 'count', 'tokens', 'headDim', 'rank'],
  reals: [],
  extents: ({ rows, kvHeads, count, tokens, headDim, rank }) => ({
    chosen: 4 * rows * count,
    factors: 2 * (rows / kvHeads) * tokens * rank,
    directions: 2 * rows * headDim * rank,
    turns: 2 * tokens * headDim,
    out: 2 * rows * count * headDim,
  }),
  reference({ ints: { rows, kvHeads, count, tokens, headDim, rank }, bytes }) {
    const chosen = u32View(bytes('chosen'));
    const factors = fromBf16(bytes('factors'), (rows / kvHeads) * tokens * rank);
    const directions = fromBf16(bytes('directions'), rows * headDim * rank);
    const turns = fromBf16(bytes('turns'), tokens * headDim);
    const out = u16View(bytes('out'));
    const half = headDim / 2;
    for (let i = 0; i < rows * count; i++) {
      const row = Math.floor(i / count);
      const token = chosen[i];
      const from = (Math.floor(row / kvHeads) * tokens + token) * rank;
      const product = (channel: number): number => {
        let sum = 0;
        for (let r = 0; r < rank; r++)
          sum += factors[from + r] * directions[(row * headDim + channel) * rank + r];
        return sum;
      };
      for (let c = 0; c < half; c++) {
        const [x, y] = [product(c), product(c + half)];
        const [cosine, sine] = [turns[token * headDim + c], turns[token * headDim + half + c]];
        out[i * headDim + c] = bf16Of(x * cosine - y * sine);
        out[i * headDim + half + c] = bf16Of(y * cosine + x * sine);
      }
    }
  },
  randomCase(random) {
    const kvHeads = random.integer(1, 3);
    const rows = kvHeads * random.integer(1, 2);
    const count = random.integer(1, 150);
    const tokens = random.integer(1, 60);
    const headDim = random.among([64, 128]);
    const rank = 32 * random.integer(1, 5);
    const chosen = Uint32Array.from({ length: rows * count }, () => random.integer(0, tokens - 1));
    const turns = Float64Array.from({ length: tokens * headDim });
    for (let i = 0; i < turns.length; i++) {
      const channel = i % headDim;
      const angle = Math.floor(i / headDim) * 10_000 ** ((-2 * (channel % (headDim / 2))) / headDim);
      turns[i] = channel < headDim / 2 ? Math.cos(angle) : Math.sin(angle);
    }
    return {
      label: `low-rank-rebuild rows ${rows} of ${kvHeads} heads count ${count} tokens ${tokens} headDim ${headDim} rank ${rank}`,
      buffers: {
        chosen: { tier: 'hbm', data: u32Bytes(chosen) },
        factors: { tier: 'hbm', data: randomBf16(random, (rows / kvHeads) * tokens * rank) },
        directions: { tier: 'hbm', data: randomBf16(random, rows * headDim * rank) },
        turns: { tier: 'hbm', data: toBf16(turns) },
        out: { tier: 'hbm', data: 2 * rows * count * headDim },
      },
      ints: { rows, kvHeads, count, tokens, headDim, rank },
      outputs: [{ ref: 'out', bytes: 2 * rows * count * headDim, type: 'bf16', tolerance: 4e-3 }],
    };
  },
} satisfies KernelSpec;
