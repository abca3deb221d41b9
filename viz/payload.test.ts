/** The packed payload gives back what went in, whatever the sizes and strings. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { StreamName } from '../sim/program/operation.ts';
import { fixtureComparison } from '../test/comparison.ts';
import { type PolicyTimeline, packPayload, unpackPayload } from './payload.ts';

const streams: readonly StreamName[] = ['compute', 'h2d', 'd2h'];

const row = fc.record({
  start: fc.double({ min: 0, max: 1e15, noNaN: true }),
  length: fc.double({ min: 0, max: 1e9, noNaN: true }),
  kind: fc.integer({ min: 0, max: 255 }),
  stream: fc.integer({ min: 0, max: 2 }),
  layer: fc.integer({ min: -1, max: 32_767 }),
  step: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
  bytes: fc.integer({ min: 0, max: 2 ** 52 }),
});

const timelines: fc.Arbitrary<PolicyTimeline> = fc
  .record({ policy: fc.string({ unit: 'grapheme' }), rows: fc.array(row) })
  .map(({ policy, rows }) => ({
    policy,
    timeline: {
      kinds: ['attend', policy],
      streams,
      startNs: Float64Array.from(rows, (r) => r.start),
      endNs: Float64Array.from(rows, (r) => r.start + r.length),
      kind: Uint8Array.from(rows, (r) => r.kind),
      stream: Uint8Array.from(rows, (r) => r.stream),
      layer: Int16Array.from(rows, (r) => r.layer),
      step: Int32Array.from(rows, (r) => r.step),
      bytes: Float64Array.from(rows, (r) => r.bytes),
    },
  }));

it('unpacks to what was packed', () => {
  const { result } = fixtureComparison(1, 1);
  fc.assert(
    fc.property(fc.array(timelines, { maxLength: 4 }), fc.array(fc.string()), (list, pageNotes) => {
      const payload = { result, timelines: list, replay: { available: false, reason: 'no' }, pageNotes };
      const packed = packPayload(payload);
      const copy = packed.slice();
      expect(unpackPayload(copy.buffer)).toEqual(payload);
    }),
    { seed: 42 },
  );
});
