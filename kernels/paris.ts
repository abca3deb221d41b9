/**
 * ParisKV's index in the oracles of the paris-* calls: rotation (random signs, Hadamard), sign bytes and 4-bit codes of
 * subspaces of 8 channels, and the tiers of a query's sign patterns. The formulas of sim/policy/pariskv-index.ts and
 * rotated-code.ts, which a test holds them to. amy-77/ParisKV cache_hub/polar_cache.py.
 */
import { fromBf16 } from './floats.ts';

export const SUBSPACE = 8;
export const PATTERNS = 256;
const THRESHOLDS = [0.0843, 0.1698, 0.2578, 0.3499, 0.4487, 0.5585, 0.6901];
export const CENTRES = [0.042, 0.1266, 0.213, 0.3025, 0.3973, 0.5001, 0.6169, 0.7633] as const;
/** Weights 6..1 go to sign patterns until these shares of the ρ·n nearest keys are covered. */
const TIER_SHARES = [0.05, 0.15, 0.3, 0.5, 0.75, 1];

/** Channels after padding to a power of two. */
export const paddedDim = (headDim: number): number => 2 ** Math.ceil(Math.log2(Math.max(SUBSPACE, headDim)));

/** Signs times the row, padded with zeros, through a Walsh-Hadamard transform scaled by 1/√dim. */
export const rotated = (row: ArrayLike<number>, signs: ArrayLike<number>): Float64Array => {
  const x = new Float64Array(signs.length);
  for (let c = 0; c < row.length; c++) x[c] = row[c] * signs[c];
  for (let half = 1; half < x.length; half *= 2)
    for (let i = 0; i < x.length; i++) {
      if ((i & half) !== 0) continue;
      [x[i], x[i + half]] = [x[i] + x[i + half], x[i] - x[i + half]];
    }
  return x.map((value) => value / Math.sqrt(x.length));
};

/** The mean of a group's queries, bf16 [group, headDim] at `row` of `queries`, rotated. */
export const rotatedQuery = (
  queries: Uint8Array,
  row: number,
  group: number,
  headDim: number,
  signs: ArrayLike<number>,
): Float64Array => {
  const size = group * headDim;
  const all = fromBf16(queries.subarray(2 * row * size), size);
  const mean = new Float64Array(headDim);
  for (let i = 0; i < size; i++) mean[i % headDim] += all[i] / group;
  return rotated(mean, signs);
};

/** Sign byte, 4-bit codes (bit 3 = sign) and weight (norm over agreement) of 8 components of `x` from `first` on. */
export const encodeSubspace = (x: Float64Array, first: number) => {
  const part = x.subarray(first, first + SUBSPACE);
  const norm = Math.sqrt(part.reduce((sum, value) => sum + value * value, 0));
  let agreement = 0;
  let pattern = 0;
  const codes = Array.from(part, (value, c) => {
    const size = norm === 0 ? 0 : Math.abs(value) / norm;
    const level = THRESHOLDS.filter((threshold) => size > threshold).length;
    agreement += size * CENTRES[level];
    if (value < 0) pattern |= 1 << c;
    return value < 0 ? 8 | level : level;
  });
  return { pattern, codes, weight: agreement === 0 ? 0 : norm / agreement };
};

/**
 * Tiers 6 .. 0 of the sign patterns of one subspace by proximity to the query: the cost of a pattern is the sum of the
 * query's sizes where signs differ. `counts`: keys of each pattern; `wanted` = ρ·n nearest keys that tiers cover.
 */
export const tiersOf = (
  query: Float64Array,
  first: number,
  counts: ArrayLike<number>,
  wanted: number,
): Uint8Array => {
  const costs = Float64Array.from({ length: PATTERNS }, (_, pattern) => {
    let cost = 0;
    for (let c = 0; c < SUBSPACE; c++)
      if (query[first + c] < 0 !== ((pattern >> c) & 1) > 0) cost += Math.abs(query[first + c]);
    return cost;
  });
  const order = Uint32Array.from({ length: PATTERNS }, (_, i) => i).sort(
    (a, b) => costs[a] - costs[b] || a - b,
  );
  const tiers = new Uint8Array(PATTERNS);
  let covered = 0;
  for (const pattern of order) {
    const before = covered;
    tiers[pattern] = TIER_SHARES.filter((share) => before < share * wanted).length;
    covered += counts[pattern];
  }
  return tiers;
};
