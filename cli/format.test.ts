/** Numbers for people. */
import { expect, it } from 'vitest';
import { formatBytes, formatCount, formatNs, formatRatio } from './format.ts';

it('keeps three significant digits and moves to the next unit when rounding would reach it', () => {
  expect([0, 512, 999.7, 1000, 17179869184, 1e18, -2500].map(formatBytes)).toEqual([
    '0 B',
    '512 B',
    '1.00 kB',
    '1.00 kB',
    '17.2 GB',
    '1000 PB',
    '-2.50 kB',
  ]);
  expect(formatCount(8030261248)).toBe('8.03 G');
  expect([5.6e6, 95_000, 12].map(formatNs)).toEqual(['5.60 ms', '95.0 µs', '12 ns']);
  expect(formatRatio(0.87654)).toBe('87.7 %');
});
