/** Output errors of choices that weigh their tokens, or attend to rows in place of tokens, against plain float64 loops. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { attendExactly, createExactAttention } from './exact-attention.ts';
import { measureGroup } from './measure.ts';
import { MeasureRoom } from './measure-room.ts';
import { Selection } from './selection.ts';

const normals = (count: number, name: string): Float32Array => {
  const out = new Float32Array(count);
  createRandom(42, name).fillNormal(out);
  return out;
};

interface Term {
  readonly key: Float32Array;
  readonly value: Float32Array;
  readonly factor: number;
}

/** Σ factor · e^(q·k/√d) · v over Σ factor · e^(q·k/√d). */
const attend = (q: Float32Array, terms: readonly Term[]): number[] => {
  const d = q.length;
  const weights = terms.map(
    ({ key, factor }) => factor * Math.exp(key.reduce((sum, x, c) => sum + x * q[c], 0) / Math.sqrt(d)),
  );
  const total = weights.reduce((a, b) => a + b);
  return Array.from({ length: d }, (_, c) =>
    terms.reduce((sum, { value }, i) => sum + (weights[i] / total) * value[c], 0),
  );
};

const errorOf = (approximate: readonly number[], truth: readonly number[]): number =>
  Math.sqrt(truth.reduce((sum, x, c) => sum + (approximate[c] - x) ** 2, 0)) /
  Math.sqrt(truth.reduce((sum, x) => sum + x * x, 0));

const cases = fc.record({
  d: fc.constantFrom(8, 16, 80),
  tokens: fc.integer({ min: 5, max: 200 }),
  rows: fc.integer({ min: 0, max: 20 }),
  every: fc.integer({ min: 1, max: 4 }),
});

test('factors and estimated rows count as their definition says, per query head', () => {
  fc.assert(
    fc.property(cases, ({ d, tokens, rows, every }) => {
      const groupSize = 2;
      const [queries, keys, values] = [groupSize, tokens, tokens].map((n, i) => normals(n * d, `rows-${i}`));
      const rowOf = (of: Float32Array, i: number): Float32Array => of.subarray(i * d, (i + 1) * d);
      const exact = createExactAttention(groupSize, tokens, d);
      attendExactly(exact, queries, keys, values, d, tokens);
      const estimates = {
        count: rows,
        keys: normals(rows * d, 'centroids'),
        values: normals(rows * d, 'means'),
        sizes: Float32Array.from({ length: rows }, (_, i) => 1 + (i % 5)),
      };
      const selection = new Selection(tokens);
      // A second use must not see the first one's factors and rows.
      for (const round of [1, 2]) {
        selection.reset(tokens);
        selection.none();
        for (let t = 0; t < tokens; t += every) selection.take(t, t + 1);
        selection.weigh(0, 1, 3 * round);
        selection.estimates.push(estimates);
      }
      const room = new MeasureRoom(groupSize, tokens, d);
      measureGroup(
        {
          exact,
          selection,
          queries,
          headDim: d,
          keys,
          values,
          decodedKeys: [],
          decodedValues: [],
          codedValues: new Uint8Array(tokens),
        },
        room,
      );
      for (let g = 0; g < groupSize; g++) {
        const q = rowOf(queries, g);
        const all = Array.from({ length: tokens }, (_, t) => t);
        const truth = attend(
          q,
          all.map((t) => ({ key: rowOf(keys, t), value: rowOf(values, t), factor: 1 })),
        );
        const taken = all.filter((t) => t % every === 0);
        const terms = taken.map((t) => ({
          key: rowOf(keys, t),
          value: rowOf(values, t),
          factor: t === 0 && g === 1 ? 6 : 1,
        }));
        for (let i = 0; i < rows; i++)
          terms.push({
            key: rowOf(estimates.keys, i),
            value: rowOf(estimates.values, i),
            factor: estimates.sizes[i],
          });
        expect(room.results[g].outputError).toBeCloseTo(errorOf(attend(q, terms), truth), 4);
        expect(room.results[g].tokens).toBe(taken.length);
      }
    }),
    { seed: 42, numRuns: 60 },
  );
});
