/** Concentration against cases that can be worked out by hand, and against a sort. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createConcentration, measureConcentration, topSize } from './concentration.ts';

const fractions = [0.001, 0.01, 0.05, 0.1, 0.2, 1];
const shares = [0.5, 0.9, 0.95, 0.99, 1];

const measure = (row: Float32Array, n = row.length) => {
  const out = createConcentration(fractions.length, shares.length);
  measureConcentration(row, n, fractions, shares, out);
  return { ...out, topMass: [...out.topMass], oracleTokens: [...out.oracleTokens] };
};

describe('concentration', () => {
  it('of attention on one token: everything in the top one, no entropy', () => {
    const row = new Float32Array(1000);
    row[417] = 1;
    const { topMass, oracleTokens, entropyBits } = measure(row);
    expect(topMass).toEqual([1, 1, 1, 1, 1, 1]);
    expect(oracleTokens).toEqual([1, 1, 1, 1, 1]);
    expect(entropyBits).toBe(0);
  });

  it('of uniform attention: K(0.9) = 0.9 n, the top 5 % hold 5 %, entropy log2 n', () => {
    for (const n of [8, 1000, 4096, 30000]) {
      const { topMass, oracleTokens, entropyBits } = measure(new Float32Array(n).fill(1 / n));
      for (const [i, fraction] of fractions.entries())
        expect(topMass[i]).toBeCloseTo(topSize(fraction, n) / n, 9);
      expect(oracleTokens).toEqual(shares.map((share) => Math.ceil(share * n - 1e-6)));
      expect(entropyBits).toBeCloseTo(Math.log2(n), 9);
    }
  });

  it('of two levels: 10 tokens of 0.05 over 990 that share the rest', () => {
    const row = new Float32Array(1000).fill(0.5 / 990);
    for (let i = 0; i < 10; i++) row[i * 97] = 0.05;
    const { topMass, oracleTokens, entropyBits } = measure(row);
    expect(topMass[0]).toBeCloseTo(0.05, 6);
    expect(topMass[1]).toBeCloseTo(0.5, 6);
    expect(topMass[3]).toBeCloseTo(0.5 + (90 * 0.5) / 990, 6);
    expect(oracleTokens[0]).toBe(10);
    expect(oracleTokens[1]).toBe(10 + Math.ceil(0.8 * 990));
    expect(entropyBits).toBeCloseTo(0.5 * Math.log2(20) + 0.5 * Math.log2(990 / 0.5), 5);
  });

  it('looks at the first n entries only', () => {
    expect(measure(Float32Array.of(0.5, 0.5, 7), 2).entropyBits).toBeCloseTo(1, 12);
  });

  it('is what a sort gives, to the width of a bin', () => {
    const positive = fc.double({ min: 1e-7, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.array(positive, { minLength: 1, maxLength: 400 }), (weights) => {
        const sum = weights.reduce((a, b) => a + b, 0);
        const row = Float32Array.from(weights, (w) => w / sum);
        const sorted = Float64Array.from(row).sort().reverse();
        const total = sorted.reduce((a, b) => a + b, 0);
        const top = (k: number): number => sorted.subarray(0, k).reduce((a, b) => a + b, 0) / total;
        const { topMass, oracleTokens, entropyBits } = measure(row);
        for (const [i, fraction] of fractions.entries()) {
          expect(Math.abs(topMass[i] - top(topSize(fraction, row.length)))).toBeLessThan(1 / 128);
        }
        for (const [i, share] of shares.slice(0, 4).entries()) {
          expect(top(oracleTokens[i])).toBeGreaterThan(share - 1 / 128);
          expect(top(oracleTokens[i] - 1)).toBeLessThan(share + 1 / 128);
        }
        const entropy = sorted.reduce((a, p) => a - (p / total) * Math.log2(p / total), 0);
        expect(Math.abs(entropyBits - entropy)).toBeLessThan(1e-4);
      }),
      { seed: 42 },
    );
  });
});
