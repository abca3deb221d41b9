/** What is decoded equals what was coded, however finely a policy codes and whichever half it keeps. */
import { expect, test } from 'vitest';
import type { Codec } from '../policy/codec.ts';
import { Selection } from '../quality/selection.ts';
import { CodedRanges } from './coded-ranges.ts';

const D = 4;
const TOKENS = 300;
const keys = Float32Array.from({ length: TOKENS * D }, (_, i) => i + 0.25);
const values = Float32Array.from({ length: TOKENS * D }, (_, i) => -i - 0.25);

/** Decodes to rows · factor, and counts how often it codes. */
const scaling = (factor: number, keeps?: 'keys' | 'values'): Codec & { calls: number } => ({
  name: `times ${factor}`,
  title: '',
  ...(keeps === undefined ? {} : { keeps }),
  calls: 0,
  kBytesPerToken: () => 1,
  vBytesPerToken: () => 1,
  scaleBytes: () => 0,
  decodeFlopsPerToken: () => 0,
  encode(k, v, d, from, tokens) {
    this.calls++;
    const decoded = (rows: Float32Array) =>
      rows.subarray(from * d, (from + tokens) * d).map((x) => x * factor);
    return {
      tokens,
      decodeKeys: (out) => out.set(decoded(k)),
      decodeValues: (out) => out.set(decoded(v)),
    };
  },
});

const selectionOf = (from: number, to: number): Selection => {
  const selection = new Selection(TOKENS);
  selection.reset(TOKENS);
  selection.take(from, to);
  return selection;
};

/** Token → decoded first channel over the raw one. */
const factors = (part: CodedRanges['keys'], raw: Float32Array, selection: Selection): Map<number, number> => {
  const found = new Map<number, number>();
  for (const { from, tokens, rows } of part.decodedIn(selection))
    for (let t = 0; t < tokens; t++) found.set(from + t, rows[t * D] / raw[(from + t) * D]);
  return found;
};

test('tokens coded one by one share pieces and keep their own codes', () => {
  const ranges = new CodedRanges({ keys, values }, D, TOKENS);
  const [two, three] = [scaling(2), scaling(3)];
  for (let token = 10; token < 200; token++) {
    ranges.add(token, token + 1, token % 2 === 0 ? two : three);
    // Decoding in between must not freeze a piece that still grows.
    if (token % 7 === 0) ranges.keys.decodedIn(selectionOf(0, TOKENS));
  }
  const everything = selectionOf(0, TOKENS);
  expect(ranges.keys.decodedIn(everything)).toHaveLength(3);
  const found = factors(ranges.keys, keys, everything);
  expect(found.size).toBe(190);
  for (const [token, factor] of found) expect(factor).toBeCloseTo(token % 2 === 0 ? 2 : 3, 5);
  expect(two.calls + three.calls).toBe(190);
});

test('keys and values take their forms at different times', () => {
  const ranges = new CodedRanges({ keys, values }, D, TOKENS);
  ranges.add(0, 128, scaling(2, 'values'));
  ranges.add(0, 40, scaling(3, 'keys'));
  ranges.add(40, 41, scaling(5, 'keys'));
  const all = selectionOf(0, TOKENS);
  expect(new Set(factors(ranges.keys, keys, all).values())).toEqual(new Set([2]));
  expect(factors(ranges.values, values, all).get(39)).toBeCloseTo(3, 5);
  expect(factors(ranges.values, values, all).get(40)).toBeCloseTo(5, 5);
  expect([...ranges.values.isCoded].reduce((a, b) => a + b)).toBe(41);
});

test('only touched runs are coded, and a whole run may be coded anew', () => {
  const ranges = new CodedRanges({ keys, values }, D, TOKENS);
  const [first, second] = [scaling(2), scaling(4)];
  for (let from = 0; from < 256; from += 64) ranges.add(from, from + 64, first);
  ranges.keys.decodedIn(selectionOf(70, 80));
  expect(first.calls).toBe(1);
  ranges.add(64, 128, second);
  const found = factors(ranges.keys, keys, selectionOf(60, 130));
  expect([found.get(63), found.get(64), found.get(127), found.get(128)]).toEqual([2, 4, 4, 2]);
  expect(() => ranges.add(100, 140, second)).toThrow(/coded together/);
});
