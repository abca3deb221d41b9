/** Factors on rows whose correlations are known. */
import { expect, test } from 'vitest';
import { createRandom } from '../../../sim/engine/random.ts';
import { fitFactors } from './factors.ts';
import { channelDeviations, meanRows } from './moments.ts';

const [channels, rows] = [16, 4000];

/** Channels 0-3 share one normal with these loadings, 4 and 5 another; the rest are alone. */
const wanted = (c: number): readonly [number, number] => {
  if (c < 4) return [c % 2 === 0 ? 0.9 : -0.6, 0];
  return [0, c < 6 ? 0.8 : 0];
};

function drawRows(): Float32Array {
  const random = createRandom(3, 'factors');
  const all = new Float32Array(channels * rows);
  for (let at = 0; at < all.length; at += channels) {
    const [a, b] = [random.normal(), random.normal()];
    for (let c = 0; c < channels; c++) {
      const [x, y] = wanted(c);
      all[at + c] = 5 + (c + 1) * (x * a + y * b + Math.sqrt(1 - x * x - y * y) * random.normal());
    }
  }
  return all;
}

function correlations(weights: Float64Array): (a: number, b: number) => number {
  const drawn = drawRows();
  const mean = meanRows(channels, [drawn]);
  const loadings = fitFactors([drawn], mean, channelDeviations(mean, [drawn]), weights);
  const factors = loadings.length / channels;
  const row = (c: number): Float64Array => loadings.subarray(c * factors, (c + 1) * factors);
  return (a, b) => row(a).reduce((sum, x, f) => sum + x * row(b)[f], 0);
}

test('the correlations come back, and channels that are alone stay so', () => {
  const found = correlations(new Float64Array(channels).fill(1));
  for (let a = 0; a < channels; a++) {
    for (let b = 0; b < a; b++) {
      const [x, y] = wanted(a);
      const [u, v] = wanted(b);
      // Four factors take a little of chance beside the two that are there.
      expect(Math.abs(found(a, b) - (x * u + y * v))).toBeLessThan(0.12);
    }
    expect(found(a, a)).toBeLessThan(1);
  }
});

test('channels that no logit hangs on are left alone first', () => {
  const found = correlations(Float64Array.from({ length: channels }, (_, c) => (c < 4 ? 0 : 1)));
  const all = correlations(new Float64Array(channels).fill(1));
  expect(Math.abs(found(5, 4) - 0.64)).toBeLessThan(0.1);
  expect(Math.abs(found(0, 2) - 0.81)).toBeGreaterThan(Math.abs(all(0, 2) - 0.81));
});
