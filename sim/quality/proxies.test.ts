/** Each quality measure against its definition, worked out the slow way. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { Admission, auroc, FutureAttention } from './admission.ts';
import { Drift } from './drift.ts';
import { EvictionLosses, HeadEviction } from './eviction.ts';
import { attendExactly, createExactAttention, type ExactAttention } from './exact-attention.ts';
import { footprintOf, footprintsOf } from './footprint.ts';
import { HeadLocality, Locality } from './locality.ts';
import { measureGroup } from './measure.ts';
import { MeasureRoom } from './measure-room.ts';
import { RankedRow } from './ranked-row.ts';
import { Selection } from './selection.ts';

const [G, D, N] = [3, 32, 400];
const normals = (count: number, name: string): Float32Array => {
  const random = createRandom(42, name);
  return Float32Array.from({ length: count }, () => random.normal());
};
const queries = normals(G * D, 'q').map((x) => 2 * x);
const keys = normals(N * D, 'k');
const values = normals(N * D, 'v').map((x, i) => x * (1 + (Math.floor(i / D) % 5)));
const exact = createExactAttention(G, N, D);
attendExactly(exact, queries, keys, values, D, N);
const row = (g: number): number[] => [...exact.probabilities.subarray(g * N, (g + 1) * N)];
const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
const norm = (matrix: Float32Array, token: number): number =>
  Math.sqrt(sum([...matrix.subarray(token * D, (token + 1) * D)].map((x) => x * x)));
const everyThird = (): Selection => {
  const selection = new Selection(N);
  selection.reset(N);
  selection.none();
  for (let token = 0; token < N; token += 3) selection.take(token, token + 1);
  return selection;
};
const raw = { decodedKeys: [], decodedValues: [], codedValues: new Uint8Array(N) };
const measured = (selection: Selection, coded = {}) => {
  const room = new MeasureRoom(G, N, D);
  room.forget();
  measureGroup({ exact, selection, queries, headDim: D, keys, values, ...raw, ...coded }, room);
  return room.results;
};

test('best mass and least tokens are those of the sorted row', () => {
  const entry = fc.oneof(fc.constant(0.25), fc.float({ min: 0, max: 1, noNaN: true }));
  fc.assert(
    fc.property(
      fc.array(entry, { minLength: 1, maxLength: 60 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (list, u) => {
        const values = Float32Array.from(list);
        const ranked = new RankedRow(values.length);
        ranked.rank(values, values.length);
        const sorted = [...values].sort((a, b) => b - a);
        const k = 1 + Math.floor(u * (values.length - 1));
        expect(ranked.bestMass(k)).toBeCloseTo(sum(sorted.slice(0, k)), 9);
        const wanted = 0.9 * sum(sorted);
        const count = ranked.entriesFor(0.9);
        expect(sum(sorted.slice(0, count))).toBeGreaterThanOrEqual(wanted - 1e-9);
        if (count > 0) expect(sum(sorted.slice(0, count - 1))).toBeLessThan(wanted + 1e-9);
      },
    ),
    { seed: 42 },
  );
});

test('recall at 100, the best choice of the size and value-weighted mass', () => {
  const results = measured(everyThird());
  const attended = Array.from({ length: N }, (_, t) => t).filter((t) => t % 3 === 0);
  for (let g = 0; g < G; g++) {
    const a = row(g);
    const order = a.map((_, t) => t).sort((x, y) => a[y] - a[x]);
    const top = new Set(order.slice(0, 100));
    expect(results[g].recallAt100).toBeCloseTo(attended.filter((t) => top.has(t)).length / 100, 9);
    const best = sum(order.slice(0, attended.length).map((t) => a[t]));
    expect(results[g].bestMass).toBeCloseTo(best, 5);
    const weigh = (tokens: readonly number[]): number => sum(tokens.map((t) => a[t] * norm(values, t)));
    expect(results[g].valueMass).toBeCloseTo(weigh(attended) / weigh(a.map((_, t) => t)), 5);
    // For an exact subset, total variation is what was left out.
    expect(results[g].totalVariation).toBeCloseTo(1 - sum(attended.map((t) => a[t])), 5);
  }
});

test('codec errors: logits, weighted rows, total variation', () => {
  const [from, tokens] = [90, 120];
  const rounded = (matrix: Float32Array, step: number) => {
    const own = matrix.subarray(from * D, (from + tokens) * D);
    const rows = own.map((x) => Math.round(x * step) / step);
    const squaredErrors = Float32Array.from({ length: tokens }, (_, t) =>
      sum(Array.from({ length: D }, (_, c) => (rows[t * D + c] - own[t * D + c]) ** 2)),
    );
    return { from, tokens, rows, squaredErrors };
  };
  const [k, v] = [rounded(keys, 2), rounded(values, 1)];
  const codedValues = new Uint8Array(N).fill(1, from, from + tokens);
  const selection = everyThird();
  const results = measured(selection, { decodedKeys: [k], decodedValues: [v], codedValues });
  const dot = (g: number, matrix: Float32Array, token: number): number =>
    sum(Array.from({ length: D }, (_, c) => queries[g * D + c] * matrix[token * D + c])) / Math.sqrt(D);
  for (let g = 0; g < G; g++) {
    const a = row(g);
    const attended = a.map((_, t) => t).filter((t) => t % 3 === 0);
    const coded = attended.filter((t) => t >= from && t < from + tokens);
    const logitErrors = coded.map((t) => dot(g, k.rows, t - from) - dot(g, keys, t));
    expect(results[g].logitRms).toBeCloseTo(Math.sqrt(sum(logitErrors.map((x) => x * x)) / coded.length), 5);
    for (const [found, piece, matrix] of [
      [results[g].keyError, k, keys],
      [results[g].valueError, v, values],
    ] as const) {
      const error = sum(coded.map((t) => a[t] * piece.squaredErrors[t - from]));
      expect(found).toBeCloseTo(error / sum(attended.map((t) => a[t] * norm(matrix, t) ** 2)), 5);
    }
    const weight = (t: number): number =>
      a[t] * (coded.includes(t) ? Math.exp(logitErrors[coded.indexOf(t)]) : 1);
    const total = sum(attended.map(weight));
    const own = a.map((_, t) => (t % 3 === 0 ? weight(t) / total : 0));
    expect(results[g].totalVariation).toBeCloseTo(sum(a.map((x, t) => Math.abs(x - own[t]))) / 2, 5);
  }
});

/** A selection of these tokens out of `length`. */
const choose = (tokens: readonly number[], length: number): Selection => {
  const selection = new Selection(length);
  selection.reset(length);
  selection.none();
  for (const token of tokens) selection.take(token, token + 1);
  return selection;
};

test('the hit curve is that of a least-recently-used set refilled after every step', () => {
  const step = fc.uniqueArray(fc.nat(19), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(fc.array(step, { minLength: 2, maxLength: 8 }), (choices) => {
      const totals = new Locality();
      const head = new HeadLocality(totals, 20);
      for (const tokens of choices) head.add(choose(tokens, 20), 20, true);
      const found = totals.summary();
      const pairs = choices.slice(1).map((tokens, i) => {
        const before = new Set(choices[i]);
        const shared = tokens.filter((t) => before.has(t)).length;
        return shared / (tokens.length + before.size - shared);
      });
      expect(found?.jaccard).toBeCloseTo(sum(pairs) / pairs.length, 9);
      for (const { hotTokens, hitRatio } of found?.reuse ?? []) {
        let hits = 0;
        let uses = 0;
        choices.forEach((tokens, at) => {
          if (at === 0) return;
          for (const token of tokens) {
            const last = choices.slice(0, at).findLastIndex((earlier) => earlier.includes(token));
            uses++;
            if (last >= 0 && new Set(choices.slice(last, at).flat()).size <= hotTokens) hits++;
          }
        });
        expect(hitRatio).toBeCloseTo(hits / uses, 9);
      }
    }),
    { seed: 42 },
  );
});

describe('eviction', () => {
  /** Two query heads over five tokens. */
  const small: ExactAttention = {
    ...createExactAttention(2, 5, 1),
    length: 5,
    probabilities: Float32Array.from([0.5, 0.25, 0.125, 0.125, 0, 0.25, 0.25, 0.5, 0, 0]),
  };

  test('counts what later queries miss, and what became of the evidence', () => {
    const losses = new EvictionLosses();
    const place = Uint8Array.from([1, 0, 0, 1, 1]);
    const head = new HeadEviction(losses, [
      [1, 2],
      [3, 5],
    ]);
    for (let step = 0; step < 2; step++) head.add(small, choose([0, 3], 5), place, 3);
    head.finish(place);
    expect(losses.lostMass).toEqual([0.375, 0.75, 0.375, 0.75]);
    expect(losses.worstToken).toEqual([(0.125 + 0.5) / 2]);
    const needle = losses.needle();
    expect(needle?.live).toBeCloseTo(2 / 3, 9);
    expect(needle?.massRecall).toBeCloseTo(0.125 / (0.25 + 0.125 + 0.25), 9);
  });

  test('nothing dropped, nothing lost; no evidence, no needle', () => {
    const losses = new EvictionLosses();
    const head = new HeadEviction(losses, []);
    head.add(small, choose([0], 5), new Uint8Array(5).fill(1), 5);
    head.finish(new Uint8Array(5).fill(1));
    expect([losses.lostMass, losses.worstToken, losses.needle()]).toEqual([[], [], null]);
  });

  test('kept prompt tokens against those that the future attends to', () => {
    const future = new FutureAttention(4);
    future.add(small);
    expect([...future.most]).toEqual([0.5, 0.25, 0.5, 0.125]);
    const admission = new Admission();
    admission.add(future, Uint8Array.from([1, 1, 0, 0]), Float32Array.from([4, 1, 3, 2, 9]));
    expect(admission.keptShare).toEqual([0.5]);
    expect(admission.precision).toEqual([0.5]);
    expect(admission.auroc).toEqual([0.5]);
    expect(admission.gateAuroc).toEqual([1]);
    admission.add(future, new Uint8Array(4).fill(1), null);
    expect(admission.precision).toHaveLength(1);
  });
});

test('the area under the curve is the chance that a marked entry scores higher', () => {
  const entries = fc.array(fc.record({ score: fc.integer({ min: 0, max: 4 }), mark: fc.nat(1) }), {
    minLength: 2,
    maxLength: 20,
  });
  fc.assert(
    fc.property(entries, (list) => {
      const found = auroc(
        Float32Array.from(list, ({ score }) => score),
        Uint8Array.from(list, ({ mark }) => mark),
      );
      const pairs = list.flatMap((a) =>
        list.flatMap((b) =>
          a.mark === 1 && b.mark === 0 ? [a.score > b.score ? 1 : a.score === b.score ? 0.5 : 0] : [],
        ),
      );
      if (pairs.length === 0) expect(found).toBeNull();
      else expect(found).toBeCloseTo(sum(pairs) / pairs.length, 9);
    }),
    { seed: 42 },
  );
});

test('a choice that follows a gap is compared with the next one, not with the one before', () => {
  const totals = new Locality();
  const head = new HeadLocality(totals, 20);
  const run: readonly (readonly [readonly number[], boolean])[] = [
    [[1, 2], true],
    [[1, 2], true],
    [[3, 4], false],
    [[4, 5], true],
  ];
  for (const [tokens, isAdjacent] of run) head.add(choose(tokens, 20), 20, isAdjacent);
  expect(totals.summary()?.jaccard).toBeCloseTo((1 + 1 / 3) / 2, 9);
});

test('drift is the recall of stretches of measured steps', () => {
  const drift = new Drift();
  for (let step = 0; step < 64; step += 4) {
    drift.add(step, 1 - step / 100, 0.5);
    drift.add(step, 1 - step / 100, 1);
  }
  const points = drift.points();
  expect(points.map(({ step }) => step)).toEqual([0, 8, 16, 24, 32, 40, 48, 56]);
  expect(points[1].massRecall).toBeCloseTo(1 - (8 + 12) / 200, 9);
  expect(points[1].recallAt100).toBe(0.75);
});

test('footprints count tokens and bytes', () => {
  const held = { hbm: [50, 50], dram: [100, 102], nvme: [0, 0], dense: [100, 102] };
  const found = footprintsOf(100, [10, 11], held);
  expect(found.tokens).toBe(footprintOf(100, [10, 11]));
  expect(found.peakTokens).toBe(100 / 102);
  expect(found.bytes).toEqual({ hbm: 100 / 202, dram: 1 });
  const onDrive = footprintsOf(100, [10, 11], { ...held, nvme: [0, 202] });
  expect(onDrive.bytes).toEqual({ hbm: 100 / 202, dram: 1, nvme: 1 });
});
