/** Exact attention and the measures against plain float64 loops: the oracle that every policy's quality rests on. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { attendExactly, attendSteps, createExactAttention, createExactSteps } from './exact-attention.ts';
import { measureGroup } from './measure.ts';
import { MeasureRoom } from './measure-room.ts';
import { Selection } from './selection.ts';

interface Case {
  readonly groupSize: number;
  readonly d: number;
  readonly tokens: number;
}

const normals = (count: number, name: string): Float32Array => {
  const out = new Float32Array(count);
  createRandom(42, name).fillNormal(out);
  return out;
};

const dataOf = ({ groupSize, d, tokens }: Case) => ({
  queries: normals(groupSize * d, 'q').map((x) => 2 * x),
  keys: normals(tokens * d, 'k'),
  values: normals(tokens * d, 'v'),
});

/** Softmax attention of one query over the listed tokens, in float64. */
const oracle = (
  query: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  d: number,
  listed: readonly number[],
) => {
  const logits = listed.map((token) => {
    let sum = 0;
    for (let c = 0; c < d; c++) sum += query[c] * keys[token * d + c];
    return sum / Math.sqrt(d);
  });
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const weights = logits.map((logit) => Math.exp(logit - largest));
  const normaliser = weights.reduce((a, b) => a + b);
  const output = new Float64Array(d);
  for (const [i, token] of listed.entries())
    for (let c = 0; c < d; c++) output[c] += (weights[i] / normaliser) * values[token * d + c];
  return { largest, normaliser, output, probabilities: weights.map((weight) => weight / normaliser) };
};

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const distance = (a: Float64Array, b: Float64Array): number =>
  Math.sqrt(a.reduce((sum, x, c) => sum + (x - b[c]) ** 2, 0));
const norm = (a: Float64Array): number => distance(a, new Float64Array(a.length));

const cases = fc.record({
  groupSize: fc.constantFrom(1, 2, 3, 7),
  d: fc.constantFrom(6, 16, 64, 80),
  tokens: fc.integer({ min: 1, max: 1500 }),
});

test('one step agrees with float64 loops', () => {
  fc.assert(
    fc.property(cases, (size) => {
      const { groupSize, d, tokens } = size;
      const { queries, keys, values } = dataOf(size);
      const exact = createExactAttention(groupSize, tokens + 5, d);
      attendExactly(exact, queries, keys, values, d, tokens);
      for (let g = 0; g < groupSize; g++) {
        const wanted = oracle(queries.subarray(g * d, (g + 1) * d), keys, values, d, range(tokens));
        expect(exact.maxLogit[g]).toBeCloseTo(wanted.largest, 4);
        expect(exact.normaliser[g] / wanted.normaliser).toBeCloseTo(1, 5);
        for (let i = 0; i < tokens; i += 7)
          expect(exact.probabilities[g * exact.stride + i]).toBeCloseTo(wanted.probabilities[i], 6);
        expect(distance(exact.output.slice(g * d, (g + 1) * d), wanted.output)).toBeLessThan(1e-5);
      }
    }),
    { seed: 42, numRuns: 40 },
  );
});

test('several steps at once are the same as one after another, and see nothing of the future', () => {
  const size = { groupSize: 3, d: 32, tokens: 700 };
  const { keys, values } = dataOf(size);
  const queries = range(3).map((step) => normals(3 * 32, `q${step}`));
  const lengths = [650, 651, 700];
  const together = createExactSteps(4, 3, 700, 32);
  attendSteps(together, queries, keys, values, 32, lengths);
  for (const [step, length] of lengths.entries()) {
    const alone = createExactAttention(3, 700, 32);
    attendExactly(alone, queries[step], keys, values, 32, length);
    const got = together.steps[step];
    expect(got.length).toBe(length);
    for (let g = 0; g < 3; g++) {
      const row = (of: Float32Array) => of.slice(g * 700, g * 700 + length);
      expect(row(got.probabilities)).toEqual(row(alone.probabilities));
      expect(got.normaliser[g]).toBe(alone.normaliser[g]);
    }
    expect(distance(got.output, alone.output)).toBeLessThan(1e-6);
  }
});

describe('quality of a selection', () => {
  const size = { groupSize: 4, d: 32, tokens: 500 };
  const { queries, keys, values } = dataOf(size);
  const exact = createExactAttention(4, 500, 32);
  attendExactly(exact, queries, keys, values, 32, 500);
  const room = new MeasureRoom(4, 500, 32);
  const selected = (perQuery: boolean): { selection: Selection; listed: (g: number) => number[] } => {
    const selection = new Selection(500);
    selection.reset(500);
    selection.take(0, 4);
    selection.take(450, 500);
    const extra = (g: number): number => (perQuery ? 60 * (g + 1) : 60);
    if (perQuery) for (let g = 0; g < 4; g++) selection.take(extra(g), extra(g) + 20, g);
    else selection.take(60, 80);
    const listed = (g: number): number[] =>
      range(500).filter((t) => t < 4 || t >= 450 || (t >= extra(g) && t < extra(g) + 20));
    return { selection, listed };
  };
  const raw = { decodedKeys: [], decodedValues: [], codedValues: new Uint8Array(500) };
  const input = { exact, queries, headDim: 32, keys, values, ...raw };
  const query = (g: number): Float32Array => queries.subarray(g * 32, (g + 1) * 32);

  test.each([false, true])('raw rows, per query head: %s', (perQuery) => {
    const { selection, listed } = selected(perQuery);
    room.forget();
    measureGroup({ ...input, selection }, room);
    for (let g = 0; g < 4; g++) {
      const whole = oracle(query(g), keys, values, 32, range(500));
      const subset = oracle(query(g), keys, values, 32, listed(g));
      const result = room.results[g];
      const mass = listed(g).reduce((sum, token) => sum + whole.probabilities[token], 0);
      expect(result.tokens).toBe(listed(g).length);
      expect(result.massRecall).toBeCloseTo(mass, 5);
      const best = range(500)
        .sort((a, b) => whole.probabilities[b] - whole.probabilities[a])
        .slice(0, listed(g).length);
      const hits = best.filter((token) => listed(g).includes(token)).length;
      expect(result.topkRecall).toBeCloseTo(hits / listed(g).length, 10);
      expect(result.outputError).toBeCloseTo(distance(subset.output, whole.output) / norm(whole.output), 4);
    }
  });

  test.each([false, true])('coded rows replace their own, per query head: %s', (perQuery) => {
    const { selection, listed } = selected(perQuery);
    // Keys and values are coded at different times: their pieces overlap without being the same.
    const piece = (rows: Float32Array, from: number, tokens: number, step: number) => ({
      from,
      tokens,
      rows: rows.slice(from * 32, (from + tokens) * 32).map((x) => Math.round(step * x) / step),
      squaredErrors: new Float32Array(tokens),
    });
    const [decodedKeys, decodedValues] = [piece(keys, 466, 24, 4), piece(values, 470, 16, 2)];
    const codedValues = new Uint8Array(500).fill(1, 470, 486);
    room.forget();
    const coded = { decodedKeys: [decodedKeys], decodedValues: [decodedValues], codedValues };
    measureGroup({ ...input, selection, ...coded }, room);
    const otherKeys = keys.slice();
    const otherValues = values.slice();
    otherKeys.set(decodedKeys.rows, decodedKeys.from * 32);
    otherValues.set(decodedValues.rows, decodedValues.from * 32);
    for (let g = 0; g < 4; g++) {
      const whole = oracle(query(g), keys, values, 32, range(500));
      const subset = oracle(query(g), otherKeys, otherValues, 32, listed(g));
      const error = distance(subset.output, whole.output) / norm(whole.output);
      expect(room.results[g].outputError).toBeCloseTo(error, 4);
    }
  });
});
