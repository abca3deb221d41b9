/** Thresholds and positions of the k largest against a sort, ties included. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { RankedRow } from './ranked-row.ts';
import { topKPositions, topKThreshold } from './top-k.ts';

/** Few distinct values, so that ties at the threshold are common; tiny, usual and large numbers. */
const rows = fc
  .array(
    fc.oneof(fc.float({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 2 ** -149, 0.25, 0.5, 1e30)),
    {
      minLength: 1,
      maxLength: 300,
    },
  )
  .map((values) => Float32Array.from(values, (value) => value + 0));

const sorted = (row: Float32Array): number[] => [...row].sort((a, b) => b - a);

test('thresholds of a row and of a ranked row', () => {
  fc.assert(
    fc.property(rows, fc.nat(), (row, seed) => {
      const ranked = new RankedRow(row.length);
      ranked.rank(row, row.length);
      for (const k of [1, 1 + (seed % row.length), row.length]) {
        const wanted = sorted(row)[k - 1];
        const { bits, ties } = topKThreshold(row, row.length, k);
        expect(new Float32Array(Uint32Array.of(bits).buffer)[0]).toBe(wanted);
        expect(ties).toBe(k - row.filter((x) => x > wanted).length);
        expect(ranked.threshold(k)).toEqual({ bits, ties });
      }
    }),
    { seed: 42 },
  );
});

test('positions of the k largest, earlier ones first among equals', () => {
  fc.assert(
    fc.property(rows, fc.nat(310), (row, k) => {
      const out = new Int32Array(row.length);
      const count = topKPositions(row, row.length, k, out);
      const order = Array.from(row, (value, at) => ({ value, at })).sort(
        (a, b) => b.value - a.value || a.at - b.at,
      );
      const wanted = order.slice(0, k).map(({ at }) => at);
      expect([...out.subarray(0, count)]).toEqual(wanted.sort((a, b) => a - b));
    }),
    { seed: 42 },
  );
});
