/** What each prompt evictor keeps, against the plainest way to find it, in double precision. */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { worldOf } from '../../test/policy-cases.ts';
import { probe } from '../../test/policy-probe.ts';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { replayPolicies } from '../decode/replay.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { windowTrace } from '../trace/window.ts';
import { createPolicy } from './create-policy.ts';
import { findPolicy } from './find-policy.ts';
import type { World } from './policy.ts';

const [N, STEPS, GROUP, DIM, HEADS] = [90, 5, 3, 16, 2];
const LAYERS = 4;
const shape = {
  layers: LAYERS,
  heads: GROUP * HEADS,
  kvHeads: HEADS,
  headDim: DIM,
  promptTokens: N,
  steps: STEPS,
  recordedLayers: [0, 1, 2, 3],
};
const random = createRandomTrace({ shape, seed: 21 });
const utilityOf = (kvHead: number): Float32Array =>
  Float32Array.from({ length: N }, (_, i) => ((i * 37 + 11 * kvHead) % 89) / 89);
const trace: AttentionTrace = {
  ...random,
  has: (field, layer) => field === 'prefillMass' || field === 'utility' || random.has(field, layer),
  prefillMass: () => Float32Array.from({ length: GROUP * HEADS * N }, (_, i) => 1 + ((i * 31) % 97)),
  learnedScores: (_field, _layer, kvHead) => utilityOf(kvHead),
};
const world = (fields: readonly ('utility' | 'prefillMass')[] = []): World => ({
  ...worldOf(shape),
  fields: new Set(['k', 'v', 'q', 'qprompt', ...fields]),
});

type Rows = readonly (readonly number[])[];

/** Softmax rows [voter][query head] of a KV head over all keys up to each voter's position. */
const softmaxRows = (layer: number, kvHead: number, queries: Float32Array, positions: readonly number[]) => {
  const keys = trace.keys(layer, kvHead);
  return positions.map((position, voter) =>
    Array.from({ length: GROUP }, (_, g) => {
      const at = (voter * GROUP + g) * DIM;
      const weights = Array.from({ length: position + 1 }, (_, i) => {
        let dot = 0;
        for (let c = 0; c < DIM; c++) dot += queries[at + c] * keys[i * DIM + c];
        return Math.exp(dot / Math.sqrt(DIM));
      });
      const sum = weights.reduce((a, b) => a + b, 0);
      return weights.map((weight) => weight / sum);
    }),
  );
};

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Score [query head][token] of a KV head by its last prompt queries, or by those of the answer. */
const scores = (
  layer: number,
  kvHead: number,
  voters: number | 'answer',
  over: (values: readonly number[]) => number,
): Rows => {
  let rows: ReturnType<typeof softmaxRows>;
  if (voters === 'answer') {
    const q = range(STEPS).flatMap((step) => [...trace.queries(layer, step, kvHead)]);
    rows = softmaxRows(
      layer,
      kvHead,
      Float32Array.from(q),
      range(STEPS).map((s) => N + s),
    );
  } else {
    const { windowTokens, q } = trace.promptQueries(layer, kvHead);
    const last = q.subarray((windowTokens - voters) * GROUP * DIM);
    rows = softmaxRows(
      layer,
      kvHead,
      last,
      range(voters).map((i) => N - voters + i),
    );
  }
  return range(GROUP).map((g) => range(N).map((i) => over(rows.map((voter) => voter[g][i] ?? 0))));
};

const largest = (values: readonly number[]): number => Math.max(...values);
const acrossGroup = (rows: Rows, how: (values: readonly number[]) => number): number[] =>
  range(N).map((i) => how(rows.map((row) => row[i])));

const pooled = (
  row: readonly number[],
  past: number,
  kernel: number,
  how: (values: readonly number[]) => number,
) =>
  range(past).map((i) =>
    how(row.slice(Math.max(0, i - (kernel >> 1)), Math.min(past, i + (kernel >> 1) + 1))),
  );

const bestOf = (row: readonly number[], k: number): number[] =>
  range(row.length)
    .sort((a, b) => row[b] - row[a] || a - b)
    .slice(0, Math.max(0, k));

/** Tokens of the prompt that are alive in each KV head when the prompt has been placed. */
const kept = (
  name: string,
  config: Record<string, unknown>,
  layer: number,
  fields?: Parameters<typeof world>[0],
) => {
  const policy = createPolicy(findPolicy(name), config, world(fields));
  const alive: number[][] = [];
  let last: number[][] = [];
  probe({
    policy,
    world: world(fields),
    trace,
    layer,
    steps: STEPS,
    after({ heads }, hook) {
      const living = heads.map(({ cache }) => range(cache.tokens).filter((token) => cache.isLive(token)));
      if (hook === 'onPrefill') alive.push(...living);
      last = living;
    },
  });
  return { alive, policy, last };
};

const ascending = (tokens: readonly number[]): number[] => [...new Set(tokens)].sort((a, b) => a - b);
const from = (start: number, end = N): number[] => range(end - start).map((i) => start + i);

describe('what is kept', () => {
  test('SAGE-KV: the best of the last query between sinks and recent tokens; the window slides at one size', () => {
    const config = { budgetTokens: 30, sinkTokens: 2, recentTokens: 10 };
    const { alive, last } = kept('sage-kv', config, 1);
    for (const head of range(HEADS)) {
      const row = acrossGroup(scores(1, head, 1, meanOf), meanOf).slice(2, 80);
      const best = bestOf(row, 18).map((i) => i + 2);
      expect(alive[head]).toEqual(ascending([0, 1, ...best, ...from(80)]));
      expect(last[head]).toEqual(ascending([0, 1, ...best, ...from(80 + STEPS, N + STEPS)]));
    }
  });

  test('PyramidKV: a max pool, and budgets that fall with the layer', () => {
    const sizes: number[] = [];
    for (const layer of range(LAYERS)) {
      const { alive } = kept('pyramidkv', { budgetTokens: 25, windowTokens: 5, kernel: 3, beta: 4 }, layer);
      sizes.push(alive[0].length);
      const row = pooled(acrossGroup(scores(layer, 0, 5, meanOf), meanOf), 85, 3, largest);
      expect(alive[0]).toEqual(ascending([...bestOf(row, sizes[layer] - 5), ...from(85)]));
    }
    // On a line from 2 · 20 - 20/4 = 35 to 5, the window of 5 beside them.
    expect(sizes).toEqual([40, 30, 20, 10]);
  });

  test("Ada-KV: the layer's best tokens say how many each head keeps, half of it guaranteed", () => {
    const { alive } = kept('adakv', { budgetTokens: 25, windowTokens: 5, kernel: 3, alpha: 0.5 }, 2);
    const rows = range(HEADS).map((head) =>
      pooled(acrossGroup(scores(2, head, 5, meanOf), meanOf), 85, 3, largest),
    );
    const winners = bestOf(rows.flat(), 2 * 20);
    const inFirst = winners.filter((at) => at < 85).length;
    expect(inFirst).not.toBe(20);
    const budgets = [0.5 * inFirst + 10, 0.5 * (40 - inFirst) + 10];
    // The total is whole; of two equal halves the first head gets the token.
    expect(alive.map(({ length }) => length - 5)).toEqual([Math.ceil(budgets[0]), Math.floor(budgets[1])]);
    for (const head of range(HEADS)) {
      const best = bestOf(rows[head], alive[head].length - 5);
      expect(alive[head]).toEqual(ascending([...best, ...from(85)]));
    }
  });

  test('KVzip: one threshold for both heads, by the largest attention of any query', () => {
    const config = { keepRatio: 0.3, sinkTokens: 2, questionTokens: 0, score: 'oracle' };
    const { alive, policy } = kept('kvzip', config, 3);
    expect(policy.oracle).toBe(true);
    const rows = range(HEADS).map((head) =>
      acrossGroup(scores(3, head, 'answer', largest), largest).slice(2),
    );
    const winners = bestOf(rows.flat(), 2 * 25);
    for (const head of range(HEADS)) {
      const own = winners.filter((at) => Math.floor(at / 88) === head).map((at) => (at % 88) + 2);
      expect(alive[head]).toEqual(ascending([0, 1, ...own]));
    }
    expect(alive[0].length).not.toBe(alive[1].length);
    const even = kept('kvzip', { ...config, level: 'uniform' }, 3).alive;
    expect(even.map(({ length }) => length)).toEqual([27, 27]);
    const asked = kept('kvzip', { ...config, questionTokens: 10 }, 3).alive;
    for (const head of asked) expect(head.slice(-10)).toEqual(from(80));
    expect(asked.flat()).toHaveLength(2 * 27);
  });

  test('KVzip by head: whole heads by the largest score of their tokens, and no second reading', () => {
    const config = { level: 'head', sinkTokens: 2, questionTokens: 10 };
    const { alive, policy } = kept('kvzip', { ...config, score: 'oracle' }, 3);
    const best = range(HEADS).map((head) =>
      largest(acrossGroup(scores(3, head, 'answer', largest), largest).slice(2, 80)),
    );
    // 60 % of two heads is not both of them.
    expect(alive.map(({ length }) => length)).toEqual(best.map((x) => (x === largest(best) ? N : 12)));
    expect(alive[best[0] > best[1] ? 1 : 0]).toEqual([0, 1, ...from(80)]);
    expect(policy.extraPass).toBeNull();
    expect(policy.prefillWork.map(({ index }) => index)).toEqual(['compact']);
    expect(policy.inputs).toMatch(/head scores of this text instead of another.*oracle/);
    const heads = [0.1, 0.9, 0.5, 0.2].map((score) => [score, 0.3]);
    const given = (keepRatio: number) => kept('kvzip', { ...config, heads, keepRatio }, 0).alive;
    // Among 8 heads: 0.9, 0.5, then 0.3 four times, 0.2, 0.1.
    expect(given(0.9)[0]).toHaveLength(12);
    expect(given(0.9)[1]).toHaveLength(N);
    expect(given(0.7)[1]).toHaveLength(12);
    expect(given(1)[0]).toHaveLength(N);
    expect(kept('kvzip', { ...config, heads }, 1).policy.inputs).toBe('exact');
    expect(() => kept('kvzip', { ...config, heads: [[1, 2]] }, 0)).toThrow(
      /parameter heads: expected 4 rows/,
    );
  });

  test("KVzip without a second reading: the prompt's own mean attention, and it says so", () => {
    const config = { keepRatio: 0.3, sinkTokens: 0, questionTokens: 0, level: 'uniform' };
    const { alive, policy } = kept('kvzip', config, 3, ['prefillMass']);
    expect(policy.inputs).toMatch(/^mean attention in prefill instead of/);
    const mass = trace.prefillMass(3);
    const row = range(N).map((i) => meanOf(range(GROUP).map((g) => mass[g * N + i])) / (N - i));
    expect(alive[0]).toEqual(ascending(bestOf(row, 27)));
  });

  test('Judge Q and LookaheadKV: scores that the trace recorded', () => {
    const plain = { budgetTokens: 40, windowTokens: 8, kernel: 1 };
    const judged = kept('judge-q', plain, 1, ['utility']);
    expect(judged.policy.inputs).toBe('exact');
    const looked = kept('lookaheadkv', { ...plain, sinkTokens: 3 }, 1, ['utility']);
    expect(looked.policy.inputs).toBe('exact');
    for (const head of range(HEADS)) {
      const utility = [...utilityOf(head)];
      expect(judged.alive[head]).toEqual(ascending([...bestOf(utility.slice(0, 82), 32), ...from(82)]));
      const best = bestOf(utility.slice(3, 82), 29).map((i) => i + 3);
      expect(looked.alive[head]).toEqual(ascending([0, 1, 2, ...best, ...from(82)]));
    }
  });

  test("LookaheadKV's oracle: mean attention of the answer's queries; noise changes the choice, not its size", () => {
    const config = { budgetTokens: 40, windowTokens: 8, sinkTokens: 3, kernel: 1, score: 'oracle' };
    const { alive, policy } = kept('lookaheadkv', config, 1);
    expect(policy.inputs).toMatch(/^oracle/);
    for (const head of range(HEADS)) {
      const row = acrossGroup(scores(1, head, 'answer', meanOf), meanOf).slice(3, 82);
      const best = bestOf(row, 29).map((i) => i + 3);
      expect(alive[head]).toEqual(ascending([0, 1, 2, ...best, ...from(82)]));
    }
    const noisy = kept('lookaheadkv', { ...config, noise: 2 }, 1).alive;
    expect(noisy.map(({ length }) => length)).toEqual([40, 40]);
    expect(noisy).not.toEqual(alive);
  });
});

test.each(['snapkv', 'pyramidkv', 'adakv', 'sage-kv', 'judge-q', 'lookaheadkv'])(
  '%s reads and copies keys and values once a query head where these choose for themselves',
  (name) => {
    const bytesOf = (group: string) => {
      const plugin = findPolicy(name);
      const config = { ...plugin.atBudget?.(40, world()), group };
      const [votes, compact] = createPolicy(plugin, config, world()).prefillWork;
      return {
        votes: votes.readBytes.hbm ?? 0,
        rows: votes.writeBytes?.hbm ?? 0,
        compact: compact.readBytes.hbm,
      };
    };
    const [one, each] = [bytesOf('mean'), bytesOf('per-query')];
    expect(each.compact).toBeCloseTo(GROUP * (one.compact ?? 0), 6);
    expect(each.votes - each.rows).toBeCloseTo(GROUP * (one.votes - one.rows), 6);
    expect(each.rows).toBe(one.rows);
  },
);

test('on real attention a prediction that errs lies between prompt queries and the oracle', () => {
  const path = fileURLToPath(new URL('../../traces/samples/smollm2-135m-book.safetensors', import.meta.url));
  const captured = windowTrace(openAttentionFile(path), 2000, 32);
  const real: World = { ...worldOf(captured.shape), fields: new Set(['k', 'q', 'qprompt']) };
  const configs = [{ score: 'window' }, { score: 'oracle', noise: 1 }, { score: 'oracle' }];
  const plugin = findPolicy('lookaheadkv');
  const policies = configs.map((config) =>
    createPolicy(plugin, { ...plugin.atBudget?.(128, real), ...config }, real),
  );
  const sample = { layers: captured.shape.recordedLayers, kvHeads: [0, 1, 2], everySteps: 4, leadSteps: 0 };
  const runs = replayPolicies({ trace: captured, world: real, sample, steps: 32, seed: 1, policies });
  const recalls = runs.map(({ quality }) => meanOf(quality.massRecall));
  expect(recalls).toEqual([...recalls].sort((a, b) => a - b));
  expect(recalls[2]).toBeGreaterThan(recalls[0]);
});

test('scores that a trace lacks are asked for in vain', () => {
  for (const name of ['judge-q', 'lookaheadkv', 'kvzip'])
    expect(() => kept(name, { score: 'trace' }, 1)).toThrow(
      `policy ${name}, parameter score: trace needs the field utility`,
    );
});
