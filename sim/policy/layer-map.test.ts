/** The ridge map against what it must recover, and a guess made with it against the query that it stands for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dotOf, rowOf } from '../../test/policy-run.ts';
import { createRandom } from '../engine/random.ts';
import { type Rope, ropeFrequencies, rotate } from '../trace/rope.ts';
import { afterRope, fitLayerMap, solvePositive } from './layer-map.ts';
import type { OtherLayer, StepView, World } from './policy.ts';
import { QueryGuess } from './query-guess.ts';

const normal = (count: number, name: string): Float64Array => {
  const rows = new Float32Array(count);
  createRandom(1, name).fillNormal(rows);
  return Float64Array.from(rows);
};
const rowAt = (rows: Float64Array, row: number, width: number): number[] => [
  ...rows.subarray(row * width, (row + 1) * width),
];
const times = (matrix: Float64Array, x: readonly number[]): number[] =>
  Array.from({ length: matrix.length / x.length }, (_, r) => dotOf(rowAt(matrix, r, x.length), x));
const cosine = (a: readonly number[], b: readonly number[]): number =>
  dotOf(a, b) / Math.sqrt(dotOf(a, a) * dotOf(b, b));

test('a positive definite system is solved', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 5 }), (n, m) => {
      const a = normal(n * (n + 2), `a-${n}`);
      const gram = new Float64Array(n * n);
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++)
          gram[i * n + j] = dotOf(rowAt(a, i, n + 2), rowAt(a, j, n + 2)) + (i === j ? 0.1 : 0);
      const right = normal(n * m, `b-${m}`);
      const x = solvePositive(gram.slice(), right.slice(), n);
      for (let c = 0; c < m; c++) {
        const column = Array.from({ length: n }, (_, i) => x[i * m + c]);
        times(gram, column).forEach((value, i) => {
          expect(value).toBeCloseTo(right[i * m + c], 6);
        });
      }
    }),
    { seed: 42 },
  );
});

test('a linear image with an offset is found again, but for the ridge', () => {
  const [from, to, count] = [12, 5, 60];
  const matrix = normal(from * to, 'matrix');
  const rows = normal(from * count, 'rows');
  const image = (x: readonly number[]): number[] => times(matrix, x).map((y) => y + 3);
  const out = Float64Array.from(Array.from({ length: count }, (_, i) => image(rowAt(rows, i, from))).flat());
  const map = fitLayerMap({ rows, width: from }, { rows: out, width: to });
  const fresh = normal(from * 20, 'fresh');
  for (let i = 0; i < 20; i++) {
    const x = rowAt(fresh, i, from);
    expect(cosine([...map(Float64Array.from(x))], image(x))).toBeGreaterThan(0.99);
  }
});

test('rows that are all alike give their image', () => {
  const alike = Float64Array.from({ length: 8 }, () => 2);
  const map = fitLayerMap({ rows: alike, width: 2 }, { rows: alike, width: 2 });
  expect([...map(Float64Array.of(5, 1))]).toEqual([2, 2]);
});

test('a guess from the layer before follows its queries through rotation', () => {
  const [headDim, promptTokens, windowTokens] = [8, 200, 64];
  const rope: Rope = { frequencies: ropeFrequencies(headDim, 10_000), gapToken: 0, gapTokens: 0 };
  const matrix = normal(2 * headDim * headDim, 'weights');
  /** Queries of a token in two heads of layer 4, and their image in one head of layer 5, both rotated. */
  const queriesAt = (token: number) => {
    const source = normal(2 * headDim, `token-${token}`);
    const image = Float32Array.from(times(matrix, [...source]));
    const heads = [source.subarray(0, headDim), source.subarray(headDim)].map((head) =>
      afterRope(head, token, headDim, rope),
    );
    rotate(image, 1, token, rope);
    return { heads, image };
  };
  const window = (rowsOf: (token: number) => Float32Array) => {
    const q = new Float32Array(windowTokens * headDim);
    for (let i = 0; i < windowTokens; i++) q.set(rowsOf(promptTokens - windowTokens + i), i * headDim);
    return { windowTokens, q };
  };
  const token = promptTokens + 3;
  const other = (layer: number): OtherLayer | null =>
    layer === 4 || layer === 5
      ? {
          keys: () => new Float32Array(0),
          queries: (head) => (layer === 4 ? queriesAt(token).heads[head] : queriesAt(token).image),
          promptQueries: (head) =>
            window((t) => (layer === 4 ? queriesAt(t).heads[head] : queriesAt(t).image)),
        }
      : null;
  const random = createRandom(1, 'noise');
  const { image } = queriesAt(token);
  const view = {
    layer: 5,
    length: token + 1,
    step: 3,
    heads: [{ random }, { random }],
    queries: () => image,
    other,
  };
  const world = { headDim, groupSize: 1, promptTokens, rope };
  const guessOf = (layer: number, lead: number): number[] => {
    const guess = new QueryGuess({ guess: 'previous-layer', guessNoise: 0 }, lead, world as World);
    return rowOf(guess.of({ ...view, layer } as unknown as StepView, 0), 0, headDim);
  };
  expect(cosine(guessOf(5, 1), [...image])).toBeGreaterThan(0.98);
  // A layer whose earlier one is not recorded keeps its own query.
  expect(guessOf(5, 3)).toEqual([...image]);
});
