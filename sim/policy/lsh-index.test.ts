/** Sampling by hashed signs against its definition, its chances against counting, and its weights against their sum. */
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { roundToBf16 } from './group-quantiser.ts';
import { LshIndex, samplingChance } from './lsh-index.ts';

const channels = 12;
const count = 600;
const normals = (n: number, name: string): Float32Array => {
  const out = new Float32Array(n);
  createRandom(42, name).fillNormal(out);
  return out;
};
const rows = normals(count * channels, 'rows');
const query = normals(channels, 'query');

const dot = (a: Float32Array, at: number, b: Float32Array, bt: number): number => {
  let sum = 0;
  for (let c = 0; c < channels; c++) sum += a[at * channels + c] * b[bt * channels + c];
  return sum;
};

describe.each([1, 2] as const)('keys that collide in %i tables or more', (collisions) => {
  test('are those that share so many codes with the query', () => {
    const [hashes, tables] = [4, 9];
    const projections = new Float32Array(tables * hashes * channels);
    createRandom(7, 'projections').fillNormal(projections);
    projections.set(projections.map(roundToBf16));
    const index = new LshIndex({ rows, count, channels }, hashes, tables, createRandom(7, 'projections'));
    const codesOf = (of: Float32Array, row: number): number[] =>
      Array.from({ length: tables }, (_, table) =>
        Array.from({ length: hashes }, (_, bit) =>
          Number(dot(projections, table * hashes + bit, of, row) > 0),
        )
          .map((sign, bit) => sign << bit)
          .reduce((a, b) => a + b),
      );
    const asked = codesOf(query, 0);
    const shared = Array.from(
      { length: count },
      (_, row) => codesOf(rows, row).filter((code, table) => code === asked[table]).length,
    );
    // Twice: the marks of the first search must not reach the second.
    index.sample(query, collisions);
    const found = index.sample(query, collisions);
    expect([...found.rows.subarray(0, found.count)].sort((a, b) => a - b)).toEqual(
      shared.flatMap((tablesShared, row) => (tablesShared >= collisions ? [row] : [])),
    );
    expect(found.probes).toBe(shared.reduce((a, b) => a + b));
  });

  test('are found as often as their chance says, so that weights add up to all keys', () => {
    const [hashes, tables, rounds] = [3, 8, 60];
    let [found, expected, weight] = [0, 0, 0];
    const chances = Array.from({ length: count }, (_, row) => {
      const sizes = Math.sqrt(dot(rows, row, rows, row) * dot(query, 0, query, 0));
      return samplingChance(dot(rows, row, query, 0) / sizes, hashes, tables, collisions);
    });
    for (let round = 0; round < rounds; round++) {
      const index = new LshIndex(
        { rows, count, channels },
        hashes,
        tables,
        createRandom(round, 'projections'),
      );
      const { rows: sampled, count: size } = index.sample(query, collisions);
      found += size;
      for (const row of sampled.subarray(0, size)) weight += 1 / chances[row];
      expected += chances.reduce((a, b) => a + b);
    }
    expect(found / expected).toBeGreaterThan(0.95);
    expect(found / expected).toBeLessThan(1.05);
    expect(weight / (rounds * count)).toBeGreaterThan(0.85);
    expect(weight / (rounds * count)).toBeLessThan(1.15);
  });
});

test('with the published sizes, keys at right angles are sampled once in a hundred, near ones mostly', () => {
  const chances = [0, 0.1, 0.2, 0.3, 0.5].map((cosine) => samplingChance(cosine, 10, 150, 2));
  for (const [i, published] of [0.01, 0.031, 0.087, 0.21, 0.74].entries())
    expect(chances[i]).toBeCloseTo(published, 2);
  // One minus the angle over π, where the chance is known without the approximation.
  expect(samplingChance(1, 10, 150, 2)).toBeCloseTo(1, 6);
  expect(samplingChance(-1, 10, 150, 2)).toBeCloseTo(0, 6);
  expect(samplingChance(Math.cos(1.234), 1, 1, 1)).toBeCloseTo(1 - 1.234 / Math.PI, 7);
  expect(samplingChance(Math.cos(2.5), 1, 1, 1)).toBeCloseTo(1 - 2.5 / Math.PI, 7);
});
