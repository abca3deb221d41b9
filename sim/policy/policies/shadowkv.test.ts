/** ShadowKV against a plain model of its choice, its factors against what they promise, its bytes against closed forms. */
import { describe, expect, test } from 'vitest';
import { dotOf, type PolicyRun, rowOf, runPolicy, sumOf } from '../../../test/policy-run.ts';
import { createRandom } from '../../engine/random.ts';
import { ropeFrequencies, rotate } from '../../trace/rope.ts';
import { symmetricEigen } from '../eigen.ts';
import { LowRankKeys } from '../low-rank-keys.ts';
import { gramOf } from '../principal.ts';
import { policy as plugin } from './shadowkv.ts';

const D = 16;
const C = 4;
const PROMPT = 171;
const shape = { heads: 4, kvHeads: 2, headDim: D, promptTokens: PROMPT, steps: 9 };
const small = { chunkTokens: C, budgetTokens: 5 * C, rank: 12, outlierChunks: 3, localChunks: 2 };
/** 42 chunks of 4; without 2 local ones 40, which are whole groups of 8. */
const CHUNKS = 40;
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const lengthOf = (a: readonly number[]): number => Math.sqrt(dotOf(a, a));

const indexOf = ({ trace }: PolicyRun, kvHead: number) => {
  const keys = trace.keys(0, kvHead);
  const chunks = range(0, CHUNKS).map((chunk) => {
    const rows = range(chunk * C, (chunk + 1) * C).map((token) => rowOf(keys, token, D));
    const mean = range(0, D).map((c) => sumOf(rows.map((row) => row[c])) / C);
    const worst = Math.min(...rows.map((row) => dotOf(row, mean) / lengthOf(row) / lengthOf(mean)));
    return { chunk, mean, worst };
  });
  const outliers = new Set(
    [...chunks]
      .sort((a, b) => a.worst - b.worst)
      .slice(0, 3)
      .map(({ chunk }) => chunk),
  );
  return { outliers: [...outliers], rest: chunks.filter(({ chunk }) => !outliers.has(chunk)) };
};

/** The best five chunks for a group of queries [2, D]. */
const bestChunks = (q: Float32Array, { rest }: ReturnType<typeof indexOf>): number[] => {
  const rows = [0, 1].map((g) => {
    const exps = rest.map(({ mean }) => Math.exp(dotOf(rowOf(q, g, D), mean) / Math.sqrt(D)));
    return exps.map((e) => e / sumOf(exps));
  });
  return rest
    .map(({ chunk }, i) => ({ chunk, score: Math.max(rows[0][i], rows[1][i]) }))
    .sort((a, b) => b.score - a.score)
    .slice(0, 5)
    .map(({ chunk }) => chunk);
};

describe('choice and traffic', () => {
  const run = runPolicy('shadowkv', small, { shape });
  const indexes = [0, 1].map((kvHead) => indexOf(run, kvHead));
  const lastQuery = (kvHead: number): Float32Array => {
    const { q, windowTokens } = run.trace.promptQueries(0, kvHead);
    return q.subarray((windowTokens - 1) * 2 * D);
  };
  let held = [0, 1].map((kvHead) => bestChunks(lastQuery(kvHead), indexes[kvHead]));
  const missed = range(0, shape.steps).map((step) => {
    const now = [0, 1].map((kvHead) => bestChunks(run.trace.queries(0, step, kvHead), indexes[kvHead]));
    const count = now.map((chunks, kvHead) => chunks.filter((chunk) => !held[kvHead].includes(chunk)).length);
    held = now;
    return { now, count };
  });

  test('every head attends to its best chunks, its outliers, the end of the prompt and what was generated', () => {
    run.attended.forEach((heads, step) => {
      heads.forEach((queries, kvHead) => {
        const chunks = [...missed[step].now[kvHead], ...indexes[kvHead].outliers];
        const tokens = chunks.flatMap((chunk) => range(chunk * C, (chunk + 1) * C));
        const expected = [...tokens, ...range(CHUNKS * C, PROMPT + step + 1)].sort((a, b) => a - b);
        for (const positions of queries) expect(positions).toEqual(expected);
      });
    });
  });

  test('only values of chunks that lost their slot cross, and only their keys are rebuilt', () => {
    const { record, policy, world } = run;
    expect(policy.codecs[0].kBytesPerToken(D) + policy.codecs[0].vBytesPerToken(D)).toBe(
      world.vBytesPerToken,
    );
    record.choices.forEach(({ fetchTokens, residentTokens, works }, step) => {
      const misses = sumOf(missed[step].count) / 2;
      expect(fetchTokens).toEqual([0, misses * C]);
      expect(sumOf(residentTokens) + misses * C).toBe(5 * C + 3 * C + PROMPT - CHUNKS * C + step + 1);
      const [landmarks, rebuild] = works;
      expect(landmarks.readBytes.hbm).toBe((CHUNKS - 3) * D * 2);
      expect(landmarks.flops).toBe((2 * D + 4) * (CHUNKS - 3) * 2);
      expect(rebuild.matrixFlops).toBe(2 * 12 * D * misses * C);
      // Factors of rebuilt tokens and the head's directions.
      expect(rebuild.readBytes.hbm).toBe(misses * C * 12 * 2 + 12 * D * 2);
      expect(rebuild.writeBytes?.hbm).toBe(misses * C * D * 2);
    });
    expect(sumOf(record.prefill.spillTokens)).toBe((CHUNKS - 3) * C);
    expect(sumOf(missed.map(({ count }) => sumOf(count)))).toBeGreaterThan(0);
  });

  test('a larger hot set crosses less', () => {
    const hot = runPolicy('shadowkv', { ...small, hotChunks: 20 }, { shape });
    const crossed = ({ record }: PolicyRun): number => sumOf(record.choices.flatMap((c) => c.fetchTokens));
    expect(hot.attended).toEqual(run.attended);
    expect(crossed(hot)).toBeLessThan(crossed(run));
  });
});

test('at the published sizes HBM keeps 40 + 32 bytes a token and KV head beside raw tokens, slots and directions', () => {
  // Rank 40 of 2 KV heads is as much a head as rank 160 of 8.
  const wide = { heads: 2, kvHeads: 2, headDim: 128, promptTokens: 840, steps: 1 };
  const config = { budgetTokens: 64, outlierChunks: 0, rank: 40 };
  const { record, world } = runPolicy('shadowkv', config, { shape: wide });
  // 105 chunks, of which 96 are chosen from; 8 have slots with raw values and rebuilt keys.
  const raw = (840 - 96 * 8) * 512;
  const slots = 64 * 512;
  const directions = 40 * 128 * 2;
  expect(record.afterPrefill.hbmBytes).toBe(840 * 40 + 96 * 8 * 32 + raw + slots + directions);
  expect(record.afterPrefill.dramBytes).toBe(96 * 8 * 256);
  expect(world.vBytesPerToken).toBe(256);
});

describe('factored keys', () => {
  const [tokens, d] = [300, 8];
  const rope = { frequencies: ropeFrequencies(d, 100), gapToken: 0, gapTokens: 0 };
  const random = createRandom(1, 'factored');
  /** Unrotated keys of two heads with a decaying spectrum. */
  const plain = new Float32Array(tokens * 2 * d);
  const mix = new Float32Array(4 * d * d);
  random.fillNormal(mix);
  for (let t = 0; t < tokens; t++) {
    for (let k = 0; k < 2 * d; k++) {
      const z = random.normal() / (1 + k);
      for (let c = 0; c < 2 * d; c++) plain[t * 2 * d + c] += z * mix[k * 2 * d + c];
    }
  }
  const heads = [0, 1].map((kvHead) => {
    const keys = new Float32Array(tokens * d);
    for (let t = 0; t < tokens; t++)
      keys.set(plain.subarray(t * 2 * d + kvHead * d, t * 2 * d + (kvHead + 1) * d), t * d);
    rotate(keys, tokens, 0, rope);
    return { kvHead, keys, values: null };
  });
  const errorAt = (rank: number, fitTokens = 1000, undo: typeof rope | null = rope): number => {
    const fit = { heads, headDim: d, tokens, rank, rope: undo, fitTokens, random: createRandom(2, 'fit') };
    const factored = new LowRankKeys(fit);
    let square = 0;
    const out = new Float32Array(7 * d);
    heads.forEach(({ keys }, at) => {
      for (let from = 0; from < tokens; from += 7) {
        const count = Math.min(7, tokens - from);
        factored.rebuildInto(at, from, count, out);
        for (let i = 0; i < count * d; i++) square += (out[i] - keys[from * d + i]) ** 2;
      }
    });
    return square;
  };
  const energies = symmetricEigen(gramOf({ rows: plain, rowCount: tokens, channels: 2 * d }), 2 * d).values;

  test.each([1, 3, 6, 10])('lose at rank %i what the best factors of that rank lose', (rank) => {
    const best = sumOf([...energies.subarray(rank)]);
    expect(errorAt(rank) / best).toBeCloseTo(1, 3);
    // Fitted on every third token, they lose a little more.
    expect(errorAt(rank, 100) / best).toBeGreaterThan(1);
    expect(errorAt(rank, 100) / best).toBeLessThan(1.5);
  });

  test('are the keys at full rank, and need the rotation undone below it', () => {
    expect(errorAt(16)).toBeLessThan(1e-6 * energies[0]);
    expect(errorAt(4, 1000, null)).toBeGreaterThan(3 * errorAt(4));
  });
});

test('the lower the rank, the larger the error of attention over rebuilt keys; none is left at full rank', () => {
  const whole = { ...small, budgetTokens: 40 * C };
  const errors = [2, 8, 16, 32].map(
    (rank) => runPolicy('shadowkv', { ...whole, rank }, { shape }).outputError,
  );
  expect(errors).toEqual([...errors].sort((a, b) => b - a));
  expect(errors[0]).toBeGreaterThan(0.05);
  expect(errors[3]).toBeLessThan(1e-4);
});

test.each([200, 512, 1024, 4100])(
  'a budget of %i tokens has 24 outlier chunks for every 128 chosen',
  (tokens) => {
    const { budgetTokens, outlierChunks, localChunks } = plugin.atBudget(tokens);
    expect(Math.abs(outlierChunks - (24 * budgetTokens) / 1024)).toBeLessThan(1.2);
    const most = budgetTokens + 8 * (outlierChunks + localChunks) + 7;
    expect(most).toBeLessThanOrEqual(tokens);
    expect(most).toBeGreaterThan(tokens - 16);
  },
);

test('what it cannot do is named', () => {
  expect(() => runPolicy('shadowkv', { budgetTokens: 2047 }, { shape })).toThrow(/budgetTokens/);
  expect(() => runPolicy('shadowkv', {}, { shape, world: { vBytesPerToken: 0 } })).toThrow(/latent/);
  const { policy } = runPolicy('shadowkv', small, { shape });
  expect(policy.inputs).toMatch(/after RoPE/);
});
