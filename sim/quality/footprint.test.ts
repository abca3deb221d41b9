/** Golden vectors of the footprint's closed form (values of princeton-pli/PruLong eval/viz/kv_footprint.py), and its counted form. */
import { expect, test } from 'vitest';
import { footprintOf, kvFootprint } from './footprint.ts';

const golden: readonly (readonly [number, number, number, number])[] = [
  // chunk, head sparsity, footprint, peak
  [131072, 0, 1, 1],
  [32768, 0.5, 0.631347, 0.62878],
  [32768, 0.7, 0.483885, 0.480683],
];

test.each(golden)('chunk %i, head sparsity %f', (chunkTokens, headSparsity, footprint, peak) => {
  const got = kvFootprint({
    promptTokens: 131072,
    outputTokens: 128,
    chunkTokens,
    sinkTokens: 128,
    windowTokens: 1024,
    kvSparsity: 0,
    headSparsity,
  });
  expect(got.footprint).toBeCloseTo(footprint, 6);
  expect(got.peak).toBeCloseTo(peak, 6);
});

test('post-fill eviction barely moves the footprint, chunked eviction does', () => {
  const base = {
    promptTokens: 131072,
    outputTokens: 128,
    sinkTokens: 128,
    windowTokens: 1024,
    kvSparsity: 0.9,
    headSparsity: 0,
  };
  expect(kvFootprint({ ...base, chunkTokens: 131072 }).footprint).toBeCloseTo(0.998, 3);
  expect(kvFootprint({ ...base, chunkTokens: 32768 }).footprint).toBeCloseTo(0.326, 3);
});

test('a counted run that drops nothing is dense', () => {
  expect(
    footprintOf(
      1000,
      Array.from({ length: 50 }, (_, s) => 1001 + s),
    ),
  ).toBe(1);
});
