/** The second table says what was measured, and a dash where nothing could be. */
import { expect, test } from 'vitest';
import type { Quality } from '../sim/result.ts';
import { fixtureComparison } from '../test/comparison.ts';
import { renderQuality } from './quality-table.ts';

const { result } = fixtureComparison();
const [first, ...others] = result.policies;

const measured: Quality = {
  massRecall: { mean: 0.9, p5: 0.7 },
  topkRecall: 0.8,
  outputError: 0.1,
  footprint: 0.5,
  recallAt100: 0.75,
  oracle: {
    massRatio: { mean: 0.95, p5: 0.8 },
    tokens: { at90: 10, at95: 20, at99: 40 },
    budgetEfficiency: { at90: 0.1, at95: 0.2, at99: 0.4 },
  },
  codec: { logitRms: 0.0321, keyError: 1e-5, valueError: null },
  needle: { live: 0.5, massRecall: 0.625 },
  drift: [
    { step: 0, massRecall: 0.95, recallAt100: 0.8 },
    { step: 8, massRecall: 0.9, recallAt100: 0.7 },
  ],
  byteFootprint: { hbm: 0.25, dram: 1 },
};

test('one row a policy, in the order of the first table', () => {
  const limits = ['It is only a proxy.'];
  const text = renderQuality(
    { ...result, limits, policies: [{ ...first, quality: measured }, ...others] },
    200,
  );
  const lines = text.split('\n');
  expect(lines[2].split(/\s{2,}/)).toEqual([
    first.policy,
    '75.0 %',
    '95.0 %',
    '–',
    '–',
    '–',
    '0.032',
    '–',
    '62.5 %',
    '–',
    '–',
    '−5.0',
    '125.0 %',
  ]);
  // Results of older versions lack these measures.
  const older = lines.slice(3, 3 + others.length);
  expect(older.map((line) => line.split(/\s{2,}/)[0])).toEqual(others.map(({ policy }) => policy));
  for (const line of older) expect(line).not.toMatch(/\d %/);
  expect(lines.at(-1)).toBe('It is only a proxy.');
});
