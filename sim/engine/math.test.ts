/** The elementary functions against Math on random and edge points: relative error at most 4e-15. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cos, exp, log, log2, pow, sin } from './math.ts';

const LIMIT = 4e-15;
const relative = (a: number, b: number): number => (Object.is(a, b) || a === b ? 0 : Math.abs((a - b) / b));
const runs = { seed: 42, numRuns: 5000 };
const within = (lo: number, hi: number) => fc.double({ min: lo, max: hi, noNaN: true });

const agree = (
  ours: (x: number) => number,
  theirs: (x: number) => number,
  points: fc.Arbitrary<number>,
): void => {
  fc.assert(
    fc.property(points, (x) => {
      expect(relative(ours(x), theirs(x)), `at ${x}: ${ours(x)} against ${theirs(x)}`).toBeLessThanOrEqual(
        LIMIT,
      );
    }),
    runs,
  );
};

test('exp', () => {
  agree(exp, Math.exp, within(-708, 709.78));
  agree(exp, Math.exp, within(-1, 1));
});

test('log', () => {
  agree(log, Math.log, within(5e-324, Number.MAX_VALUE));
  agree(log, Math.log, within(0.5, 2));
  agree(log, Math.log, within(0.999, 1.001));
});

test('log2', () => {
  agree(log2, Math.log2, within(1e-300, 1e300));
  agree(log2, Math.log2, within(0.9, 1.1));
});

test('sin and cos, small, large and huge', () => {
  for (const range of [within(-4, 4), within(-2e6, 2e6), within(-1e300, 1e300)]) {
    agree(sin, Math.sin, range);
    agree(cos, Math.cos, range);
  }
});

test('pow, and its cases at the edges', () => {
  fc.assert(
    fc.property(within(1e-5, 1e5), within(-60, 60), (x, y) => {
      expect(relative(pow(x, y), x ** y)).toBeLessThanOrEqual(LIMIT);
    }),
    runs,
  );
  const edges = [0, -0, 1, -1, 2, -2, 3, 0.5, -0.5, 1e308, 5e-324, Infinity, -Infinity, NaN, 1e6, 1e15 + 1];
  for (const x of edges) {
    for (const y of edges) {
      const expected = x ** y;
      const got = pow(x, y);
      if (Number.isFinite(expected) && expected !== 0)
        expect(relative(got, expected), `${x} ** ${y}`).toBeLessThanOrEqual(LIMIT);
      else expect(got, `${x} ** ${y}`).toBe(expected);
    }
  }
});

test('special values', () => {
  expect([exp(0), exp(-Infinity), exp(Infinity), exp(NaN), exp(710), exp(-746)]).toEqual([
    1,
    0,
    Infinity,
    NaN,
    Infinity,
    0,
  ]);
  expect(relative(exp(-745.1), Math.exp(-745.1))).toBe(0);
  expect(exp(709.782712893384)).toBeLessThan(Infinity);
  expect([log(1), log(0), log(-1), log(Infinity), log(NaN)]).toEqual([0, -Infinity, NaN, Infinity, NaN]);
  expect([log2(8), log2(2 ** -1074), log2(2 ** 1023)]).toEqual([3, -1074, 1023]);
  expect([sin(0), sin(-0), cos(0), sin(Infinity), cos(NaN)]).toEqual([0, -0, 1, NaN, NaN]);
});

test('bits do not drift: a checksum over many points', () => {
  let hash = 0;
  const view = new Int32Array(2);
  const bits = new Float64Array(view.buffer);
  for (let i = 1; i < 20000; i++) {
    const x = i * 0.0137;
    bits[0] = exp(x - 137) + log(x) + sin(x) * cos(3 * x) + pow(x, 0.3) + log2(x);
    hash = (Math.imul(hash, 31) + view[0]) ^ view[1];
  }
  expect(hash).toBe(CHECKSUM);
});
const CHECKSUM = -1872162052;
