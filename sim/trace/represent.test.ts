/** Who stands for whom, on a case small enough to see. */
import { expect, test } from 'vitest';
import { layersStoodFor, representativeOf } from './represent.ts';

test('the nearest replayed layer stands for another, the lower of two equally near', () => {
  expect([0, 3, 4, 5, 9].map((layer) => representativeOf(layer, [2, 6]))).toEqual([2, 2, 2, 6, 6]);
  expect(layersStoodFor(10, [2, 6])).toEqual([5, 5]);
  expect(layersStoodFor(10, [0, 9, 4])).toEqual([3, 3, 4]);
});
