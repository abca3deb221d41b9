/** How much two choices of tokens, or two rows of attention, have in common. Sets are ascending lists of positions. */
import { createRandom } from '../../../sim/engine/random.ts';

/** Positions that stand in both lists. */
export const commonPositions = (a: Int32Array, aCount: number, b: Int32Array, bCount: number): number => {
  let common = 0;
  for (let i = 0, j = 0; i < aCount && j < bCount; ) {
    const difference = a[i] - b[j];
    if (difference === 0) common++;
    if (difference <= 0) i++;
    if (difference >= 0) j++;
  }
  return common;
};

/** |A ∩ B| / |A ∪ B|; 1 when both are empty. */
export const jaccard = (a: Int32Array, aCount: number, b: Int32Array, bCount: number): number => {
  const common = commonPositions(a, aCount, b, bCount);
  const union = aCount + bCount - common;
  return union === 0 ? 1 : common / union;
};

/** Σ min(p, q) of two rows that begin at a0 and b0 of `rows`: 1 for equal rows, 0 for disjoint ones. */
export const massOverlap = (rows: Float32Array, a0: number, b0: number, n: number): number => {
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const p = rows[a0 + i];
    const q = rows[b0 + i];
    sum += p < q ? p : q;
  }
  return sum;
};

/** Pairs that are compared in a group: all of 8 heads, a sample of more, so that MQA's hundreds stay cheap. */
const MAX_PAIRS = 28;

/** Pairs of query heads of a group whose agreement is measured: all, or a seeded sample without repetition. */
export const headPairs = (groupSize: number, seed: number): readonly (readonly [number, number])[] => {
  const pairs: [number, number][] = [];
  for (let a = 0; a < groupSize; a++) for (let b = a + 1; b < groupSize; b++) pairs.push([a, b]);
  if (pairs.length <= MAX_PAIRS) return pairs;
  const random = createRandom(seed, 'head-pairs');
  for (let i = 0; i < MAX_PAIRS; i++) {
    const j = i + random.integer(pairs.length - i);
    [pairs[i], pairs[j]] = [pairs[j], pairs[i]];
  }
  return pairs.slice(0, MAX_PAIRS);
};
