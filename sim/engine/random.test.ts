/** Streams: same seed and name, same numbers; other name, other numbers; moments and uniformity hold. */
import { expect, test } from 'vitest';
import { createRandom } from './random.ts';

/** Mean of f over n draws, and its distance from `expected` in standard errors. */
const sigmas = (n: number, expected: number, deviation: number, draw: () => number): number => {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += draw();
  return Math.abs(sum / n - expected) / (deviation / Math.sqrt(n));
};

test('a stream is a function of seed and name alone', () => {
  const take = (seed: number, name: string): number[] => {
    const random = createRandom(seed, name);
    return Array.from({ length: 8 }, () => random.nextUint32());
  };
  expect(take(42, 'arrivals')).toEqual(take(42, 'arrivals'));
  expect(take(42, 'arrivals')).toEqual(GOLDEN);
  const others = [take(42, 'service'), take(43, 'arrivals'), take(42.5, 'arrivals'), take(-42, 'arrivals')];
  for (const other of others) for (let i = 0; i < 8; i++) expect(GOLDEN).not.toContain(other[i]);
  expect(take(0, 'x')).toEqual(take(-0, 'x'));
  expect(take(1, 'ab')).not.toEqual(take(1, 'ba'));
});
const GOLDEN = [182002281, 4088780201, 3596625639, 343638674, 2673998631, 941347533, 1522210138, 1355195541];

test('uniform, exponential and normal have their moments within five standard errors', () => {
  const n = 400_000;
  const random = createRandom(7, 'moments');
  expect(sigmas(n, 0.5, Math.sqrt(1 / 12), () => random.uniform())).toBeLessThan(5);
  expect(sigmas(n, 1 / 3, Math.sqrt(4 / 45), () => random.uniform() ** 2)).toBeLessThan(5);
  expect(sigmas(n, 3, 3, () => random.exponential(3))).toBeLessThan(5);
  expect(sigmas(n, 18, Math.sqrt(20) * 9, () => random.exponential(3) ** 2)).toBeLessThan(5);
  expect(sigmas(n, 0, 1, () => random.normal())).toBeLessThan(5);
  expect(sigmas(n, 1, Math.sqrt(2), () => random.normal() ** 2)).toBeLessThan(5);
  expect(sigmas(n, 3, Math.sqrt(96), () => random.normal() ** 4)).toBeLessThan(5);
  // P(|x| > 3.6541528853610088), the ziggurat's tail.
  const tail = 2.580248e-4;
  expect(
    sigmas(n, tail, Math.sqrt(tail), () => (Math.abs(random.normal()) > 3.6541528853610088 ? 1 : 0)),
  ).toBeLessThan(5);
});

test('normal quantiles: the distribution function at ten points', () => {
  const n = 400_000;
  const random = createRandom(11, 'quantiles');
  const values = Float64Array.from({ length: n }, () => random.normal()).sort();
  const quantiles = [
    [0.05, -1.6448536269514722],
    [0.1, -1.2815515655446004],
    [0.25, -0.6744897501960817],
    [0.5, 0],
    [0.75, 0.6744897501960817],
    [0.9, 1.2815515655446004],
    [0.99, 2.3263478740408408],
    [0.999, 3.090232306167813],
  ] as const;
  for (const [p, x] of quantiles) {
    let below = 0;
    while (below < n && values[below] < x) below++;
    expect(Math.abs(below / n - p), `below ${x}`).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / n));
  }
});

test('the distribution function of the exponential, tail included', () => {
  const n = 1_000_000;
  const random = createRandom(13, 'exponential');
  const points = [0.01, 0.1, 0.5, 1, 2, 4, 7.69711747013105, 9];
  const above = points.map(() => 0);
  for (let i = 0; i < n; i++) {
    const x = random.exponential(1);
    for (let j = 0; j < points.length && x > points[j]; j++) above[j]++;
  }
  for (const [j, x] of points.entries()) {
    const p = Math.exp(-x);
    expect(Math.abs(above[j] / n - p), `above ${x}`).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / n));
  }
});

test('fillNormal writes what repeated normal() returns', () => {
  const one = createRandom(3, 'bulk');
  const bulk = createRandom(3, 'bulk');
  const dst = new Float32Array(5000);
  bulk.fillNormal(dst);
  for (let i = 0; i < dst.length; i++) expect(dst[i]).toBe(Math.fround(one.normal()));
  expect(bulk.nextUint32()).toBe(one.nextUint32());
});

test('integer is uniform, and shuffle a uniform permutation', () => {
  const random = createRandom(5, 'integers');
  for (const n of [1, 2, 3, 10, 1000, 2 ** 31, 2 ** 32]) {
    for (let i = 0; i < 200; i++) {
      const x = random.integer(n);
      expect(Number.isInteger(x) && x >= 0 && x < n).toBe(true);
    }
  }
  expect(
    sigmas(200_000, (2 ** 31 * 1.5) / 2, (2 ** 31 * 1.5) / Math.sqrt(12), () =>
      random.integer(2 ** 31 * 1.5),
    ),
  ).toBeLessThan(5);
  expect(() => random.integer(0)).toThrow(/expected an integer of 1/);
  const counts = new Map<string, number>();
  for (let i = 0; i < 24_000; i++) {
    const items = Int32Array.of(0, 1, 2, 3);
    random.shuffle(items);
    counts.set(items.join(''), (counts.get(items.join('')) ?? 0) + 1);
  }
  expect(counts.size).toBe(24);
  let chiSquared = 0;
  for (const count of counts.values()) chiSquared += (count - 1000) ** 2 / 1000;
  // 99.9 % of chi-squared with 23 degrees of freedom.
  expect(chiSquared).toBeLessThan(49.7);
});
