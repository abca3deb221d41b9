/** Numbers as people read them, at the edges where rounding misleads. */
import { expect, it } from 'vitest';
import {
  boundaryLabel,
  formatBytes,
  formatCount,
  formatNs,
  formatNumber,
  formatRatio,
  plural,
  resourceLabel,
} from './format.ts';

it.each([
  [0, '0 ns'],
  [0.2, '< 1 ns'],
  [850, '850 ns'],
  [999.6, '1.00 µs'],
  [7_940_000, '7.94 ms'],
  [331e6, '331 ms'],
  [9.1e9, '9.10 s'],
  [7200e9, '7200 s'],
])('formats %d ns as %s', (timeNs, text) => expect(formatNs(timeNs)).toBe(text));

it.each([
  [0, '0 B'],
  [512, '512 B'],
  [131_072, '131 kB'],
  [17_179_869_184, '17.2 GB'],
  [999_999_999, '1.00 GB'],
])('formats %d bytes as %s', (sizeBytes, text) => expect(formatBytes(sizeBytes)).toBe(text));

it.each([
  [0, '0 %'],
  [0.0002, '< 0.1 %'],
  [0.957, '95.7 %'],
  [0.99951, '99.95 %'],
  [0.999999, '> 99.99 %'],
  [1, '100 %'],
])('formats the ratio %d as %s', (ratio, text) => expect(formatRatio(ratio)).toBe(text));

it('groups, counts and labels', () => {
  expect(formatCount(17_179_869_184)).toBe('17,179,869,184');
  expect([formatNumber(217.6), formatNumber(3.02), formatNumber(12_345.6), formatNumber(0)]).toEqual([
    '218',
    '3.02',
    '12,346',
    '0',
  ]);
  expect([plural(1, 'policy', 'policies'), plural(2, 'policy', 'policies')]).toEqual([
    '1 policy',
    '2 policies',
  ]);
  expect(['hbm', 'c2c.d2h', 'cores'].map(resourceLabel)).toEqual([
    'HBM bandwidth',
    'link out of the GPU',
    'cores',
  ]);
  expect(boundaryLabel('dram->hbm')).toBe('DRAM → HBM');
});
