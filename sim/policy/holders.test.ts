/** Tokens held per chooser: evictions agree with a sort, and the cache stores a token once for each that holds it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeadCache } from '../memory/head-cache.ts';
import { Holders } from './holders.ts';

const raw = [{ name: 'raw', kBytesPerToken: 2, vBytesPerToken: 2 }];

test('the least scored go, older before newer of equals, and bytes follow', () => {
  const cases = fc.record({
    scores: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 40 }),
    choosers: fc.integer({ min: 1, max: 4 }),
    from: fc.nat(40),
    to: fc.nat(40),
    count: fc.nat(40),
  });
  fc.assert(
    fc.property(cases, ({ scores, choosers, from, to, count }) => {
      const n = scores.length;
      const cache = new HeadCache(n, raw, choosers);
      cache.append(n);
      const holders = new Holders(cache, choosers);
      holders.add(0, n);
      const [first, end] = [Math.min(from, n), Math.max(Math.min(from, n), Math.min(to, n))];
      // Choosers differ: each ranks the same scores turned by its own number.
      const scoreOf = (token: number, chooser: number): number => scores[(token + chooser) % n] / 7;
      const expected = Array.from({ length: choosers }, (_, chooser) => {
        const order = Array.from({ length: end - first }, (_, i) => first + i).sort(
          (a, b) => scoreOf(a, chooser) - scoreOf(b, chooser) || a - b,
        );
        const gone = new Set(order.slice(0, count));
        return Array.from({ length: n }, (_, token) => token).filter((token) => !gone.has(token));
      });
      for (let chooser = 0; chooser < choosers; chooser++) {
        const row = Float32Array.from({ length: n }, (_, token) => scoreOf(token, chooser));
        holders.dropLeast(chooser, row, first, end, count);
      }
      expected.forEach((tokens, chooser) => {
        expect([...holders.positions[chooser].subarray(0, holders.counts[chooser])]).toEqual(tokens);
      });
      const stored = expected.reduce((sum, tokens) => sum + tokens.length, 0);
      expect(holders.rows).toBe(stored);
      expect(cache.residentBytes('hbm')).toBe(4 * stored);
      expect(cache.liveTokens).toBe(new Set(expected.flat()).size);
    }),
    { seed: 42 },
  );
});
