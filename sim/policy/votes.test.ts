/** Votes and budgets against the plainest way to write them, in double precision. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { adaptiveBudgets, modelBudgets, pyramidBudget, pyramidShare, sharedBudgets } from './budgets.ts';
import type { PromptView, World } from './policy.ts';
import { futureVoters, pool, promptVoters, reduceGroup, votesOf } from './votes.ts';

const [GROUP, DIM, LENGTH, STEPS, WINDOW] = [3, 8, 40, 7, 6];
const world = { groupSize: GROUP, headDim: DIM } as World;
const normals = (name: string, count: number): Float32Array => {
  const out = new Float32Array(count);
  createRandom(11, name).fillNormal(out);
  return out;
};
const keys = normals('keys', (LENGTH + STEPS) * DIM);
const promptQ = normals('prompt', WINDOW * GROUP * DIM);
const futureQ = normals('future', STEPS * GROUP * DIM);
const head = { kvHead: 0, keys, values: null };
const view: PromptView = {
  layer: 0,
  heads: [head],
  length: LENGTH,
  promptQueries: () => ({ windowTokens: WINDOW, q: promptQ }),
  promptMass: () => null,
  learnedScores: () => null,
  futureQueries: () => ({ windowTokens: STEPS, q: futureQ }),
};

/** Softmax row of one query (row r of q) over keys 0 .. length-1. */
const row = (q: Float32Array, r: number, length: number): number[] => {
  const logits = Array.from({ length }, (_, i) => {
    let dot = 0;
    for (let c = 0; c < DIM; c++) dot += q[r * DIM + c] * keys[i * DIM + c];
    return Math.exp(dot / Math.sqrt(DIM));
  });
  const sum = logits.reduce((a, b) => a + b, 0);
  return logits.map((x) => x / sum);
};

const close = (got: Float32Array, wanted: readonly number[]): void => {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) expect(got[i]).toBeCloseTo(wanted[i], 6);
};

describe('votes', () => {
  test('of the last prompt queries are the mean of their causal rows', () => {
    const voters = promptVoters(view, 0, 4, world);
    if (voters === null) throw new Error('no voters');
    const wanted = Array.from({ length: GROUP }, (_, g) => {
      const mean = new Array<number>(LENGTH).fill(0);
      for (let w = 2; w < WINDOW; w++)
        row(promptQ, w * GROUP + g, LENGTH - WINDOW + w + 1).forEach((p, i) => {
          mean[i] += p / 4;
        });
      return mean;
    });
    close(votesOf(voters, head, LENGTH, world, 'mean'), wanted.flat());
  });

  test('of the future see generated keys too, and only their part on the prompt counts', () => {
    const future = view.futureQueries(0);
    if (future === null) throw new Error('no future');
    const voters = futureVoters(view, future, 3, world);
    expect(voters.positions).toEqual([LENGTH, LENGTH + 2, LENGTH + 4]);
    const largest = Array.from({ length: GROUP }, (_, g) =>
      Array.from({ length: LENGTH }, (_, i) =>
        Math.max(...[0, 2, 4].map((s) => row(futureQ, s * GROUP + g, LENGTH + s + 1)[i])),
      ),
    );
    close(votesOf(voters, head, LENGTH, world, 'max'), largest.flat());
  });

  test('pool along positions with zeros beyond the ends, and reduce over the group', () => {
    const votes = Float32Array.of(1, 2, 6, 0, 3);
    close(pool(votes, 5, 3, 'avg'), [1, 3, 8 / 3, 3, 1]);
    close(pool(votes, 5, 3, 'max'), [2, 6, 6, 6, 3]);
    close(pool(votes, 4, 1, 'avg'), [1, 2, 6, 0]);
    close(reduceGroup(Float32Array.of(1, 2, 3, 0, 9, 1, 2, 1, 2), 3, 3, 'mean'), [1, 4, 2]);
    close(reduceGroup(Float32Array.of(1, 2, 3, 0, 9, 1, 2, 1, 2), 3, 3, 'max'), [2, 9, 3]);
  });
});

const anyRows = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 20 }), fc.nat(999))
  .map(([rows, n, seed]) => {
    const random = createRandom(seed, 'rows');
    // Few distinct scores, so that ties are common.
    return Array.from({ length: rows }, () => Float32Array.from({ length: n }, () => random.integer(6) / 4));
  });

describe('budgets', () => {
  test('the best of all rows, wherever they lie', () => {
    const law = (rows: Float32Array[], total: number): void => {
      const counts = sharedBudgets(rows, total);
      const entries = rows.flatMap((scores, r) => [...scores].map((score, i) => ({ score, r, i })));
      const best = entries.sort((a, b) => b.score - a.score || a.r - b.r || a.i - b.i).slice(0, total);
      expect(counts).toEqual(rows.map((_, r) => best.filter((entry) => entry.r === r).length));
    };
    fc.assert(fc.property(anyRows, fc.nat(110), law), { seed: 42 });
  });

  test('adaptive ones hold their total, and the safeguard', () => {
    const law = (rows: Float32Array[], budgetTokens: number, safeguard: number, normalize: boolean): void => {
      const each = Math.min(budgetTokens, rows[0].length);
      const counts = adaptiveBudgets(rows, { budgetTokens, safeguard, normalize });
      expect(counts.reduce((a, b) => a + b, 0)).toBe(each * rows.length);
      for (const count of counts) expect(count).toBeGreaterThanOrEqual(Math.floor(safeguard * each));
      const even = adaptiveBudgets(rows, { budgetTokens, safeguard: 1, normalize });
      expect(even).toEqual(rows.map(() => each));
      if (!normalize)
        expect(adaptiveBudgets(rows, { budgetTokens, safeguard: 0, normalize })).toEqual(
          sharedBudgets(rows, each * rows.length),
        );
    };
    const safeguard = fc.constantFrom(0, 0.2, 0.5, 1);
    fc.assert(fc.property(anyRows, fc.nat(25), safeguard, fc.boolean(), law), { seed: 42 });
  });

  test('normalising favours the row whose best hold more of it', () => {
    const flat = Float32Array.of(0.3, 0.3, 0.3, 0.3);
    const peaked = Float32Array.of(0.25, 0.25, 0, 0);
    const rows = [flat, peaked];
    const given = { budgetTokens: 1, safeguard: 0 };
    expect(adaptiveBudgets(rows, { ...given, normalize: false })).toEqual([2, 0]);
    // One token holds a quarter of the flat row and half of the peaked one: 0.075 against 0.125.
    expect(adaptiveBudgets(rows, { ...given, normalize: true })).toEqual([0, 2]);
  });

  test('a pyramid falls from layer to layer around its mean', () => {
    const law = (layers: number, mean: number, beta: number, limit: number): void => {
      const budgets = Array.from({ length: layers }, (_, l) => pyramidBudget(l, layers, mean, beta, limit));
      const kept = Math.min(mean, limit);
      expect(budgets.reduce((a, b) => a + b, 0)).toBe(kept * layers);
      expect(budgets).toEqual([...budgets].sort((a, b) => b - a));
      for (const budget of budgets) {
        expect(budget).toBeGreaterThanOrEqual(0);
        expect(budget).toBeLessThanOrEqual(limit);
      }
    };
    const sizes = [fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 4000 })] as const;
    fc.assert(
      fc.property(...sizes, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 9000 }), law),
      {
        seed: 42,
      },
    );
    // PyramidKV's own numbers for 32 layers, 2048 tokens, window 8, beta 20: from 3978 down to 102.
    expect(pyramidBudget(0, 32, 2040, 20, 30000)).toBe(3978);
    expect(pyramidBudget(31, 32, 2040, 20, 30000)).toBe(102);
  });

  test('of all layers under one threshold, each replayed layer counting for those it stands for', () => {
    const weak = Float32Array.of(0.1, 0.2, 0.3, 0.4);
    const strong = Float32Array.of(0.35, 0.5, 0.6, 0.7);
    const rows = new Map([
      [0, [weak]],
      [1, [strong]],
    ]);
    // Half of 2 · 4: 0.7, 0.6, 0.5 and 0.4.
    expect(modelBudgets(rows, 2, 2)).toEqual(
      new Map([
        [0, [1]],
        [1, [3]],
      ]),
    );
    // Layers 1 .. 4 are the strong one: of 5 · 2 tokens each gets two, and the two left over do not make a third.
    const more = modelBudgets(rows, 5, 2);
    expect([more.get(0), more.get(1)]).toEqual([[0], [2]]);
  });

  test('a replayed layer of a pyramid takes the mean of the layers that it stands for', () => {
    const share = (layer: number, layers?: readonly number[]): number => {
      const replayed = layers && { replayed: { layers, kvHeads: [0] } };
      return pyramidShare(layer, { ...world, layers: 5, ...replayed }, 100, 10, 1000);
    };
    expect([0, 1, 2, 3, 4].map((layer) => share(layer))).toEqual([190, 145, 100, 55, 10]);
    expect([share(0, [0, 3]), share(3, [0, 3])]).toEqual([168, 55]);
  });
});
