/** HBM slots against a plain model: what is resident, what crosses the link, and who leaves first. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeadCache, IN_DRAM, IN_HBM } from '../memory/head-cache.ts';
import { HotSet } from './hot-set.ts';
import { Ranking, reduceRows } from './ranking.ts';

const UNITS = 12;
const UNIT_TOKENS = 3;
const choices = fc.array(fc.uniqueArray(fc.nat(UNITS - 1), { maxLength: 6 }), {
  minLength: 1,
  maxLength: 20,
});
const ranksOf = (step: number): Float32Array =>
  Float32Array.from({ length: UNITS }, (_, unit) => (unit * 7 + step * 5) % 11);

/** The units that stay, by the rule as the docstring says it. */
const leave = (idle: readonly number[], surplus: number, rank: (unit: number) => number): number[] =>
  [...idle].sort((a, b) => rank(a) - rank(b) || a - b).slice(0, surplus);

test.each([false, true])('slots turn over as a plain model does (ranked: %s)', (isRanked) => {
  fc.assert(
    fc.property(choices, fc.nat(8), (steps, slots) => {
      const cache = new HeadCache(UNITS * UNIT_TOKENS, [
        { name: 'raw', kBytesPerToken: 2, vBytesPerToken: 2 },
      ]);
      cache.append(UNITS * UNIT_TOKENS);
      cache.move(0, UNITS * UNIT_TOKENS, 'dram');
      cache.drain();
      const hot = new HotSet(UNITS * UNIT_TOKENS, UNIT_TOKENS);
      const last = new Map<number, number>();
      const model = new Set<number>();
      steps.forEach((chosen, step) => {
        const ranks = ranksOf(step);
        const entering = chosen.filter((unit) => !model.has(unit));
        for (const unit of chosen) last.set(unit, step);
        for (const unit of entering) model.add(unit);
        const idle = [...model].filter((unit) => !chosen.includes(unit));
        const surplus = Math.max(0, model.size - Math.max(slots, chosen.length));
        for (const unit of leave(idle, surplus, (u) => (isRanked ? ranks[u] : (last.get(u) ?? -1))))
          model.delete(unit);
        const entered = hot.turnOver(
          cache,
          Int32Array.from(chosen),
          chosen.length,
          slots,
          isRanked ? ranks : null,
        );
        expect(entered).toBe(entering.length);
        const crossed = cache.movements.filter(({ to }) => to === 'hbm').reduce((n, m) => n + m.tokens, 0);
        expect(crossed).toBe(entering.length * UNIT_TOKENS);
        cache.drain();
        expect(hot.size).toBe(model.size);
        for (let token = 0; token < UNITS * UNIT_TOKENS; token++)
          expect(cache.place[token]).toBe(
            model.has(Math.floor(token / UNIT_TOKENS)) ? IN_HBM | IN_DRAM : IN_DRAM,
          );
      });
    }),
    { seed: 42 },
  );
});

test('ranking finds the best of a range of scores of either sign', () => {
  const scores = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(scores, fc.nat(30), fc.nat(10), (values, k, skip) => {
      const from = Math.min(skip, values.length);
      const ranking = new Ranking(values.length);
      const count = ranking.best(Float32Array.from(values), from, values.length, k);
      const expected = values
        .map((score, at) => ({ score, at }))
        .slice(from)
        .sort((a, b) => b.score - a.score || a.at - b.at)
        .slice(0, k)
        .map(({ at }) => at)
        .sort((a, b) => a - b);
      expect([...ranking.positions.subarray(0, count)]).toEqual(expected);
    }),
    { seed: 42 },
  );
});

test('a group of query heads votes by maximum, mean or sum', () => {
  const scores = Float32Array.of(1, -2, 9, 4, 6, 9);
  const reduced = (how: 'max' | 'mean' | 'sum'): number[] => {
    const out = new Float32Array(2);
    reduceRows(scores, 2, 3, 2, how, out);
    return [...out];
  };
  expect(reduced('max')).toEqual([4, 6]);
  expect(reduced('mean')).toEqual([2.5, 2]);
  expect(reduced('sum')).toEqual([5, 4]);
});
