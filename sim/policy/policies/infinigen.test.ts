/** InfiniGen against a plain rehearsal, its skewing against what it promises, and its bytes against closed forms. */
import { describe, expect, test } from 'vitest';
import { dotOf, rowOf, runPolicy, sumOf } from '../../../test/policy-run.ts';
import { createRandom } from '../../engine/random.ts';
import type { AttentionTrace } from '../../trace/attention-trace.ts';
import { QueryGuess } from '../query-guess.ts';
import { largestColumns, withinColumns } from '../skewed-columns.ts';

const D = 16;
const shape = { heads: 4, kvHeads: 2, headDim: D, promptTokens: 120, steps: 10 };
const small = { denseLayers: 0, skew: false, alpha: 1.5, guessNoise: 0 };
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** The quarter of the columns in which the prompt's recorded queries are largest. */
const columnsOf = (trace: AttentionTrace, kvHead: number): number[] => {
  const { q } = trace.promptQueries(0, kvHead);
  const sizes = range(0, D).map((c) => sumOf(range(0, q.length / D).map((row) => Math.abs(q[row * D + c]))));
  return range(0, D)
    .sort((a, b) => sizes[b] - sizes[a])
    .slice(0, D / 4);
};

/** What each query head of each KV head fetches in a step, from the queries of step `from`. */
const plainChoice = (trace: AttentionTrace, step: number, from: number, maxShare: number): number[][][] => {
  const n = shape.promptTokens + step;
  const logits = [0, 1].map((kvHead) => {
    const columns = columnsOf(trace, kvHead);
    const part = (row: number[]): number[] => columns.map((c) => row[c]);
    return [0, 1].map((g) => {
      const q = part(rowOf(trace.queries(0, from, kvHead), g, D));
      return range(0, n).map(
        (token) => dotOf(q, part(rowOf(trace.keys(0, kvHead), token, D))) / Math.sqrt(D),
      );
    });
  });
  const counts = logits.flat().map((row) => row.filter((x) => x > Math.max(...row) - small.alpha).length);
  const k = Math.max(1, Math.min(Math.floor(sumOf(counts) / counts.length), Math.floor(maxShare * n)));
  const top = (row: number[]): number[] =>
    range(0, n)
      .sort((a, b) => row[b] - row[a])
      .slice(0, k);
  return logits.map((rows) => rows.map((row) => [...top(row), n].sort((a, b) => a - b)));
};

test.each([
  ['this-step', 1],
  ['this-step', 0.05],
  ['previous-step', 0.2],
])(
  'every query head takes what a plain rehearsal finds (%s, at most %d of the tokens)',
  (guess, maxShare) => {
    const config = { ...small, partialRatio: 0.25, guess, maxShare };
    const { trace, attended, record, world } = runPolicy('infinigen', config, { shape });
    attended.forEach((heads, step) => {
      const from = guess === 'this-step' ? step : Math.max(0, step - 1);
      const expected = plainChoice(trace, step, from, maxShare);
      expect(heads).toEqual(expected);
      const unions = expected.map((queries) => new Set(queries.flat()).size - 1);
      expect(sumOf(record.choices[step].fetchTokens)).toBe(sumOf(unions) / 2);
      const n = shape.promptTokens + step;
      const [score] = record.choices[step].works;
      expect(score.readBytes.hbm).toBe(n * (D / 4) * 2);
      expect(score.flops).toBe(2 * (D / 4) * n * 2);
      // Raw KV waits in DRAM; in HBM lie the partial keys and the token of the step.
      const token = world.kBytesPerToken + world.vBytesPerToken;
      expect(record.residency[step].dramBytes).toBe(n * token);
      expect(record.residency[step].hbmBytes).toBe((n + 1) * (D / 4) * 2 + token);
    });
  },
);

test('the published ratio of head dimension 128 keeps 25 columns: 50 bytes a token and KV head', () => {
  const wide = { ...shape, headDim: 128 };
  const { record } = runPolicy('infinigen', { denseLayers: 0 }, { shape: wide });
  const token = 512;
  record.residency.forEach(({ hbmBytes }, step) => {
    expect(hbmBytes - token).toBe((shape.promptTokens + step + 1) * 50);
  });
});

test('fetched once a query head, every choice crosses for itself', () => {
  const config = { ...small, partialRatio: 0.25, maxShare: 0.1 };
  const shared = runPolicy('infinigen', config, { shape });
  const each = runPolicy('infinigen', { ...config, fetchPer: 'query-head' }, { shape });
  expect(each.attended).toEqual(shared.attended);
  each.attended.forEach((heads, step) => {
    const crossed = heads.flat().map((positions) => positions.length - 1);
    expect(sumOf(each.record.choices[step].fetchTokens)).toBe(sumOf(crossed) / 2);
  });
});

test('slots that hold earlier choices cross less, and attend to the same', () => {
  const config = { ...small, partialRatio: 0.25, maxShare: 0.1 };
  const anew = runPolicy('infinigen', config, { shape });
  const hot = runPolicy('infinigen', { ...config, hotTokens: 60 }, { shape });
  expect(hot.attended).toEqual(anew.attended);
  const crossed = ({ record }: typeof hot): number =>
    sumOf(record.choices.flatMap(({ fetchTokens }) => fetchTokens));
  expect(crossed(hot)).toBeLessThan(crossed(anew));
});

describe.each(['counter', 'lru', 'fifo'])('a full pool (%s)', (victim) => {
  const config = { ...small, partialRatio: 0.25, maxShare: 0.1, poolTokens: 100, victim };
  const { attended, record, world } = runPolicy('infinigen', config, { shape });

  test('holds its size, and what left is not attended again', () => {
    const token = world.kBytesPerToken + world.vBytesPerToken;
    for (const { dramBytes } of record.residency) expect(dramBytes).toBe(100 * token);
    for (const queries of attended.flat())
      for (const [first] of queries) expect(first).toBeGreaterThanOrEqual(20);
  });

  test('loses the older token that its rule says', () => {
    /** Fetches of each token, and the step of the last one, as the head's own choices tell. */
    const worth = new Map<number, number>();
    const live = new Set(range(20, shape.promptTokens));
    attended.forEach((heads, step) => {
      const n = shape.promptTokens + step;
      if (step > 0) {
        live.add(n - 1);
        const older = [...live].filter((token) => token < n >> 1);
        const from = older.length > 0 ? older : [...live];
        const cost = (token: number): number => (victim === 'fifo' ? 0 : (worth.get(token) ?? 0));
        live.delete(from.sort((a, b) => cost(a) - cost(b) || a - b)[0]);
      }
      const chosen = new Set(heads[0].flat().filter((token) => token < n));
      for (const token of chosen) {
        expect(live.has(token)).toBe(true);
        worth.set(token, victim === 'lru' ? step + 1 : (worth.get(token) ?? 0) + 1);
      }
    });
  });
});

describe('skewing', () => {
  /** Rows along a few axes that are no channel. */
  const rows = new Float32Array(60 * D);
  const random = createRandom(1, 'skew-test');
  const axes = new Float32Array(2 * D);
  random.fillNormal(axes);
  for (let row = 0; row < 60; row++) {
    const [a, b] = [3 * random.normal(), random.normal()];
    for (let c = 0; c < D; c++) rows[row * D + c] = a * axes[c] + b * axes[D + c] + 0.01 * random.normal();
  }
  const key = Array.from({ length: D }, () => random.normal());
  const products = (of: Float32Array): number[] => range(0, 60).map((row) => dotOf(rowOf(of, row, D), key));
  const errorOf = (columns: number, skew: boolean): number => {
    const exact = products(rows);
    const partial = products(withinColumns(rows, D, largestColumns(rows, D, columns, skew)));
    return Math.sqrt(sumOf(exact.map((x, i) => (x - partial[i]) ** 2)) / sumOf(exact.map((x) => x * x)));
  };

  test('leaves products as they are when all columns are kept', () => {
    expect(errorOf(D, true)).toBeLessThan(1e-5);
    expect(errorOf(D, false)).toBeLessThan(1e-5);
  });

  test('puts what queries hold into the first columns', () => {
    expect(errorOf(2, true)).toBeLessThan(0.02);
    expect(errorOf(2, false)).toBeGreaterThan(0.2);
  });
});

test('noise turns a guess away by the angle that its ratio says', () => {
  const d = 128;
  const q = new Float32Array(d * 200);
  const random = createRandom(3, 'guess-test');
  random.fillNormal(q);
  const view = { layer: 0, heads: [{ random }], length: 1, step: 0, queries: () => q, other: () => null };
  const noisy = new QueryGuess({ guess: 'this-step' }, 1, { headDim: d } as never).of(view as never, 0);
  const cosines = range(0, 200).map((row) => {
    const [a, b] = [rowOf(q, row, d), rowOf(noisy, row, d)];
    return dotOf(a, b) / Math.sqrt(dotOf(a, a) * dotOf(b, b));
  });
  expect(sumOf(cosines) / 200).toBeCloseTo(0.95, 2);
});

test('says what stands in for the guess and for the offline skewing', () => {
  const inputsOf = (config: object, world = {}) =>
    runPolicy('infinigen', { ...small, ...config }, { shape, world }).policy.inputs;
  const guess = "the layer's own query instead of a guess from an earlier layer's input";
  expect(inputsOf({})).toBe(`${guess} (the trace has no hidden states)`);
  expect(inputsOf({ guessNoise: undefined })).toMatch(/^the layer's own query with noise 0.33 instead/);
  expect(inputsOf({ skew: true })).toMatch(/; columns skewed by the prompt's last queries instead of/);
  const fields = new Set(['k', 'v', 'q'] as const);
  expect(inputsOf({}, { fields })).toMatch(/; columns by the prompt's keys/);
});
