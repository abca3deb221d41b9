/** Singular directions against what defines them: orthonormal, eigenvectors, and no other basis holds more. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { symmetricEigen } from './eigen.ts';
import { gramOf, principalDirections, type Rows } from './principal.ts';

/** Rows whose channels are correlated and of decaying size, as keys are. */
const rowsOf = (rowCount: number, channels: number, seed: number): Rows => {
  const random = createRandom(seed, 'principal-test');
  const mix = new Float32Array(channels * channels);
  random.fillNormal(mix);
  const rows = new Float32Array(rowCount * channels);
  for (let row = 0; row < rowCount; row++) {
    for (let k = 0; k < channels; k++) {
      const z = random.normal() / (1 + k);
      for (let c = 0; c < channels; c++) rows[row * channels + c] += z * mix[k * channels + c];
    }
  }
  return { rows, rowCount, channels };
};

const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number, n: number): number => {
  let sum = 0;
  for (let c = 0; c < n; c++) sum += a[i * n + c] * b[j * n + c];
  return sum;
};

test('the Gram matrix is the sum of outer products, in one tile or several', () => {
  const { rows, rowCount, channels } = rowsOf(5000, 6, 1);
  const gram = gramOf({ rows, rowCount, channels });
  for (let i = 0; i < channels; i++) {
    for (let j = 0; j < channels; j++) {
      let sum = 0;
      for (let r = 0; r < rowCount; r++) sum += rows[r * channels + i] * rows[r * channels + j];
      expect(Math.abs(gram[i * channels + j] - sum)).toBeLessThan(1e-4 * Math.abs(gram[0]));
    }
  }
});

test('eigenvectors are orthonormal, and the matrix only stretches them', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.nat(100), (n, seed) => {
      const gram = gramOf(rowsOf(40, n, seed));
      const { values, vectors } = symmetricEigen(gram, n);
      for (let i = 0; i < n; i++) {
        if (i > 0) expect(values[i]).toBeLessThanOrEqual(values[i - 1]);
        for (let j = 0; j < n; j++) expect(dot(vectors, i, vectors, j, n)).toBeCloseTo(i === j ? 1 : 0, 10);
        for (let c = 0; c < n; c++)
          expect(Math.abs(dot(gram, c, vectors, i, n) - values[i] * vectors[i * n + c])).toBeLessThan(
            1e-9 * values[0],
          );
      }
    }),
    { seed: 42 },
  );
});

test('equal eigenvalues, zeros and diagonal matrices come out as they are', () => {
  const matrix = Float64Array.of(2, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5);
  const { values, vectors } = symmetricEigen(matrix, 4);
  expect([...values]).toEqual([5, 5, 2, 0]);
  expect(vectors.map(Math.abs)).toEqual(Float64Array.of(0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0));
});

test.each([1, 5, 9, 20, 40])('%i directions hold as much as the best basis of that rank', (rank) => {
  const rows = rowsOf(6000, 40, 3);
  const { basis, energy } = principalDirections(rows, rank, createRandom(1, 'basis'));
  const best = symmetricEigen(gramOf(rows), 40).values;
  for (let i = 0; i < rank; i++) {
    // Products are float32: small energies carry the rounding of the large ones.
    expect(Math.abs(energy[i] - best[i])).toBeLessThan(1e-4 * best[i] + 1e-6 * best[0]);
    for (let j = 0; j < rank; j++) expect(dot(basis, i, basis, j, 40)).toBeCloseTo(i === j ? 1 : 0, 5);
  }
});

test('a rank beyond the channels is cut to them, and fewer rows than the rank give zero directions', () => {
  const few = principalDirections(rowsOf(3, 10, 5), 20, createRandom(1, 'few'));
  expect(few.basis).toHaveLength(100);
  expect(few.energy[2]).toBeGreaterThan(0);
  expect(few.energy[3] / few.energy[0]).toBeLessThan(1e-6);
});
