/**
 * What each sign pattern is worth to a query: tiers u8 [rows, dim / 8, 256], 6 for the patterns nearest to the group's mean
 * query, down to 0, so that the tiers cover shares of the `rho`·n nearest keys. queries bf16 [rows, group, headDim]; signs
 * f32 [dim]; counts u32 [rows, dim / 8, 256] of paris-encode; `tokens` = n. amy-77/ParisKV cache_hub/polar_cache.py.
 */
import type { KernelSpec } from '../calls.ts';
import { f32View, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';
import { PATTERNS, paddedDim, rotatedQuery, SUBSPACE, tiersOf } from '../paris.ts';
import { randomSigns } from './paris-encode.ts';

export const call = {
  name: 'paris-tiers',
  refs: ['queries', 'signs', 'counts', 'tiers'],
  writes: ['tiers'],
  ints: ['rows', 'group', 'headDim', 'tokens'],
  reals: ['rho'],
  extents: ({ rows, group, headDim }) => {
    const patterns = (rows * PATTERNS * paddedDim(headDim)) / 8;
    return {
      queries: 2 * rows * group * headDim,
      signs: 4 * paddedDim(headDim),
      counts: 4 * patterns,
      tiers: patterns,
    };
  },
  reference({ ints: { rows, group, headDim, tokens }, reals: { rho }, bytes }) {
    const dim = paddedDim(headDim);
    const subspaces = dim / SUBSPACE;
    const signs = f32View(bytes('signs')).subarray(0, dim);
    const counts = u32View(bytes('counts'));
    const tiers = bytes('tiers');
    for (let row = 0; row < rows; row++) {
      const query = rotatedQuery(bytes('queries'), row, group, headDim, signs);
      for (let b = 0; b < subspaces; b++) {
        const at = (row * subspaces + b) * PATTERNS;
        const own = tiersOf(query, b * SUBSPACE, counts.subarray(at, at + PATTERNS), rho * tokens);
        tiers.set(own, at);
      }
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const group = random.among([1, 4, 7, 16]);
    const headDim = random.among([64, 80, 128, 256]);
    const patterns = (rows * PATTERNS * paddedDim(headDim)) / 8;
    const counts = Uint32Array.from({ length: patterns }, () => random.integer(0, 9));
    return {
      label: `paris-tiers rows ${rows} group ${group} headDim ${headDim}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        signs: { tier: 'hbm', data: randomSigns(random, paddedDim(headDim)) },
        counts: { tier: 'hbm', data: u32Bytes(counts) },
        tiers: { tier: 'hbm', data: patterns },
      },
      ints: { rows, group, headDim, tokens: Math.round(4.5 * PATTERNS) },
      reals: { rho: 0.05 + 0.9 * random.uniform() },
      // Patterns of nearly equal cost may change places at the border of two tiers.
      outputs: [{ ref: 'tiers', bytes: patterns, type: 'u8', tolerance: 2e-3 }],
    };
  },
} satisfies KernelSpec;
