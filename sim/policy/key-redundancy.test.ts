/** Redundancy of keys against the whole matrix of cosines, pair by pair. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { keyRedundancy } from './key-redundancy.ts';

const DIM = 8;

/** Row i, column j of the cosines; for each column the last other row above the threshold counts as 0. */
const plain = (keys: Float32Array, positions: readonly number[], threshold: number): number[] => {
  const rows = positions.map((p) => [...keys.subarray(p * DIM, (p + 1) * DIM)]);
  const norm = (row: readonly number[]): number => Math.hypot(...row);
  const cosine = (a: readonly number[], b: readonly number[]): number =>
    a.reduce((sum, x, c) => sum + x * b[c], 0) / (norm(a) * norm(b));
  const matrix = rows.map((a, i) => rows.map((b, j) => (i === j ? 0 : cosine(a, b))));
  rows.forEach((_, j) => {
    for (let i = rows.length - 1; i >= 0; i--) {
      if (i !== j && matrix[i][j] > threshold) {
        matrix[i][j] = 0;
        return;
      }
    }
  });
  const means = matrix.map((row) => row.reduce((a, b) => a + b, 0) / rows.length);
  const weights = means.map((mean) => Math.exp(mean));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
};

test('agrees with the matrix, within a block of rows and across', () => {
  const cases = fc.record({
    tokens: fc.integer({ min: 1, max: 200 }),
    every: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(999),
    // How much all keys have in common: at 0 few are alike, at 2 most.
    common: fc.constantFrom(0, 0.5, 2),
  });
  fc.assert(
    fc.property(cases, ({ tokens, every, seed, common }) => {
      const keys = new Float32Array(tokens * DIM);
      createRandom(seed, 'keys').fillNormal(keys);
      for (let i = 0; i < keys.length; i++) keys[i] += common;
      const held = Int32Array.from({ length: Math.ceil(tokens / every) }, (_, i) => i * every);
      const got = keyRedundancy(keys, DIM, held, held.length, 0.5);
      plain(keys, [...held], 0.5).forEach((value, i) => {
        expect(got[i] / value).toBeCloseTo(1, 4);
      });
    }),
    { seed: 42, numRuns: 40 },
  );
});

test('of three equal keys the newest is the least redundant', () => {
  const keys = Float32Array.from({ length: 4 * DIM }, (_, i) => (i < DIM ? i % 2 : 1));
  const [, first, second, newest] = keyRedundancy(keys, DIM, Int32Array.of(0, 1, 2, 3), 4, 0.9);
  expect(newest).toBeLessThan(second);
  expect(newest).toBeLessThan(first);
});
