/**
 * Policies that evict by what was attended, against plain re-implementations with sets and Math.exp over the same
 * queries and keys: what every query head attends to in every step, and the bytes that follow from it.
 */
import { describe, expect, test } from 'vitest';
import { createSmall, DIM, GROUP, WINDOW } from '../../test/small-attention.ts';
import type { LayerRecord } from './replay.ts';

const PROMPT = 60;
const STEPS = 14;
/** Any numbers do for column sums: what is tested is what a policy makes of them. */
const prefillMass = Float32Array.from({ length: 4 * PROMPT }, (_, i) => ((i * 37) % 101) / 50);
const small = createSmall({
  layers: 1,
  kvHeads: 2,
  promptTokens: PROMPT,
  steps: STEPS,
  seed: 5,
  prefillMass,
});
const { promptTokens } = small;

const run = (name: string, config: Record<string, unknown>) => {
  const { attended, records, policy } = small.run(name, config);
  return { attended: attended[0], record: records[0], policy };
};
const softmaxOver = (q: Float32Array, kvHead: number, tokens: readonly number[]) =>
  small.softmaxOver(q, 0, kvHead, tokens);
const queryOf = (step: number, kvHead: number, g: number) => small.queryOf(0, step, kvHead, g);

const budgetsHeld = (record: LayerRecord, tokens: number): void => {
  for (const choice of record.choices) expect(choice.attendTokens).toBeCloseTo(tokens, 9);
};

describe('h2o', () => {
  const [HEAVY, RECENT] = [7, 5];

  /** One chooser at a time: sums of attention, everything but the last tokens ranked, the best kept. */
  const expected = (kvHead: number, queries: readonly number[], normalised: boolean): number[][] => {
    const score = new Map<number, number>();
    const seen = new Map<number, number>();
    for (const token of promptTokens()) {
      const columns = queries.map((g) => prefillMass[(kvHead * GROUP + g) * PROMPT + token]);
      score.set(token, columns.reduce((a, b) => a + b, 0) / queries.length);
      seen.set(token, PROMPT - token);
    }
    const steps: number[][] = [];
    for (let step = 0; step < STEPS; step++) {
      score.set(PROMPT + step, 0);
      seen.set(PROMPT + step, 0);
      const rank = (token: number): number =>
        (score.get(token) ?? 0) / (normalised ? (seen.get(token) ?? 0) : 1);
      const held = [...score.keys()].sort((a, b) => a - b);
      const others = held.slice(0, held.length - RECENT).sort((a, b) => rank(b) - rank(a) || b - a);
      for (const token of others.slice(HEAVY)) score.delete(token);
      const kept = [...score.keys()].sort((a, b) => a - b);
      steps.push(kept);
      for (const g of queries) {
        for (const [token, p] of softmaxOver(queryOf(step, kvHead, g), kvHead, kept))
          score.set(token, (score.get(token) ?? 0) + p / queries.length);
      }
      for (const token of kept) seen.set(token, (seen.get(token) ?? 0) + 1);
    }
    return steps;
  };

  test.each([false, true])('keeps the heavy hitters of the group, normalised %s', (normalised) => {
    const { attended, record } = run('h2o', { heavyTokens: HEAVY, recentTokens: RECENT, normalised });
    for (const kvHead of [0, 1]) {
      const truth = expected(kvHead, [0, 1], normalised);
      expect(attended.map((heads) => heads[kvHead][0])).toEqual(truth);
      expect(attended.map((heads) => heads[kvHead][1])).toEqual(truth);
    }
    budgetsHeld(record, HEAVY + RECENT);
    for (const { residentTokens } of record.choices) expect(residentTokens).toEqual([HEAVY + RECENT]);
  });

  test('per query head each keeps its own, and reads and stores it once a query head', () => {
    const { attended, record } = run('h2o', {
      heavyTokens: HEAVY,
      recentTokens: RECENT,
      group: 'per-query',
    });
    for (const kvHead of [0, 1]) {
      for (const g of [0, 1])
        expect(attended.map((heads) => heads[kvHead][g])).toEqual(expected(kvHead, [g], false));
    }
    budgetsHeld(record, HEAVY + RECENT);
    const stored = GROUP * (HEAVY + RECENT);
    for (const { residentTokens } of record.choices) expect(residentTokens).toEqual([stored]);
    // 64 bytes of KV and 4 of score for every stored token.
    for (const { hbmBytes } of record.residency) expect(hbmBytes).toBe(stored * (64 + 4));
  });

  test('by ratio the budget is a share of the prompt', () => {
    budgetsHeld(run('h2o', { heavyRatio: 0.2, recentRatio: 0.1 }).record, 0.3 * PROMPT);
  });

  test('declares what a fused kernel hides: keys once more, or probabilities out and in', () => {
    const budget = HEAVY + RECENT;
    const sizes = { heavyTokens: HEAVY, recentTokens: RECENT };
    const [second] = run('h2o', sizes).record.choices[0].works;
    expect(second.readBytes.hbm).toBeCloseTo(budget * (32 + 4));
    expect(second.flops).toBeCloseTo(budget * GROUP * (2 * DIM + 2));
    const [written] = run('h2o', { ...sizes, columns: 'materialised' }).record.choices[0].works;
    expect(written.readBytes.hbm).toBeCloseTo(budget * (GROUP * 2 + 4));
    expect(written.writeBytes?.hbm).toBeCloseTo(budget * (GROUP * 2 + 4));
    const [prompt] = run('h2o', sizes).policy.prefillWork;
    expect(prompt.flops).toBe(GROUP * 2 * (PROMPT / 2));
    expect(prompt.matrixFlops).toBe(GROUP * 2 * DIM * (PROMPT / 2));
  });
});

describe('tova', () => {
  const BUDGET = 12;

  test('drops, for the whole layer, what the last query attended to least', () => {
    const { attended, record } = run('tova', { budgetTokens: BUDGET });
    const meanOf = (tokens: readonly number[], query: (kvHead: number, g: number) => Float32Array) => {
      const mean = new Map(tokens.map((token) => [token, 0]));
      for (const kvHead of [0, 1]) {
        for (const g of [0, 1])
          for (const [token, p] of softmaxOver(query(kvHead, g), kvHead, tokens))
            mean.set(token, (mean.get(token) ?? 0) + p / 4);
      }
      return mean;
    };
    const best = (mean: Map<number, number>, count: number): number[] =>
      [...mean.entries()]
        .sort((a, b) => b[1] - a[1])
        .slice(0, count)
        .map(([token]) => token);
    let mean = meanOf(promptTokens(), (kvHead, g) => small.promptQueryOf(0, kvHead, WINDOW - 1, g).q);
    for (let step = 0; step < STEPS; step++) {
      const held = [...best(mean, BUDGET - 1), PROMPT + step].sort((a, b) => a - b);
      for (const head of attended[step]) for (const query of head) expect(query).toEqual(held);
      mean = meanOf(held, (kvHead, g) => queryOf(step, kvHead, g));
    }
    budgetsHeld(record, BUDGET);
    for (const { residentTokens } of record.choices) expect(residentTokens).toEqual([BUDGET]);
  });
});

describe('scissorhands', () => {
  const [BUDGET, RECENT, WINDOW_QUERIES] = [14, 3, 9];

  /** Keeps whole histories: who saw what, and whether at least uniform; nothing incremental. */
  const expected = (kvHead: number, queries: readonly number[], drop: number): number[][] => {
    const history: { readonly seen: number; readonly hits: ReadonlySet<number> }[] = [];
    const remember = (tokens: readonly number[], length: number, rows: readonly Float32Array[]): void => {
      const hits = new Set(
        tokens.filter((token) => {
          const sum = rows.reduce((total, q) => total + (softmaxOver(q, kvHead, tokens).get(token) ?? 0), 0);
          return sum / rows.length >= 1 / tokens.length;
        }),
      );
      history.push({ seen: length, hits });
    };
    const rate = (token: number): number => {
      const last = history.slice(-WINDOW_QUERIES).filter(({ seen }) => token < seen);
      return last.length === 0 ? 1 : last.filter(({ hits }) => hits.has(token)).length / last.length;
    };
    const shrunk = (held: readonly number[], size: number): number[] => {
      const order = held.slice(0, held.length - RECENT).sort((a, b) => rate(a) - rate(b) || a - b);
      const gone = new Set(order.slice(0, held.length - size));
      return held.filter((token) => !gone.has(token));
    };
    for (let w = WINDOW - WINDOW_QUERIES; w < WINDOW; w++) {
      const rows = queries.map((g) => small.promptQueryOf(0, kvHead, w, g));
      const [{ length }] = rows;
      remember(
        promptTokens().slice(0, length),
        length,
        rows.map(({ q }) => q),
      );
    }
    let held = shrunk(promptTokens(), BUDGET);
    return Array.from({ length: STEPS }, (_, step) => {
      held.push(PROMPT + step);
      if (held.length > BUDGET) held = shrunk(held, BUDGET + 1 - drop);
      remember(
        held,
        PROMPT + step + 1,
        queries.map((g) => queryOf(step, kvHead, g)),
      );
      return [...held];
    });
  };
  const sizes = { budgetTokens: BUDGET, recentTokens: RECENT, historyTokens: WINDOW_QUERIES };

  test.each([1, 4])('drops who rarely got uniform attention, %i at a time', (dropTokens) => {
    const { attended, record } = run('scissorhands', { ...sizes, dropTokens });
    for (const kvHead of [0, 1]) {
      expect(attended.map((heads) => heads[kvHead][0])).toEqual(expected(kvHead, [0, 1], dropTokens));
    }
    for (const { attendTokens } of record.choices) expect(attendTokens).toBeLessThanOrEqual(BUDGET);
    if (dropTokens === 1) budgetsHeld(record, BUDGET);
  });

  test('per query head each has a history, of w bits and a count a token', () => {
    const { attended, record } = run('scissorhands', { ...sizes, group: 'per-query' });
    for (const g of [0, 1]) expect(attended.map((heads) => heads[1][g])).toEqual(expected(1, [g], 1));
    for (const { hbmBytes } of record.residency)
      expect(hbmBytes).toBeCloseTo(GROUP * BUDGET * (64 + 4 + WINDOW_QUERIES / 8), 6);
  });

  test('a budget that the recent tokens fill is refused', () => {
    expect(() => run('scissorhands', { budgetTokens: 10 })).toThrow(/above recentTokens 10, found 10/);
  });
});
