/** Page tables name exactly the slots that rows attend to, wherever shared spans lie. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FillTable } from './memory.ts';
import { joined, pageTablesOf, pageTokensFor, type Row, rowAt, type Segment, spansOf } from './segments.ts';

const at = (base: number, ...segments: Segment[]): Row => rowAt(base, spansOf(segments));

const filled = (words: number, fill: FillTable): Uint32Array => {
  const target = new Uint32Array(words);
  fill(target);
  return target;
};

describe('page tables', () => {
  it('take the largest page that leaves one partial page a row, last', () => {
    const rows = [at(64, { slot: 0, count: 5, queries: 3 }, { slot: 64, count: 32, queries: -1 })];
    expect(pageTokensFor(rows, 64)).toBe(32);
    expect(pageTokensFor(rows, 16)).toBe(16);
    const { table, offsets, tokens, isMasked, mask, entries } = pageTablesOf(rows, 32);
    expect([...filled(entries, table)]).toEqual([4, 2]);
    expect([...offsets]).toEqual([0, 2]);
    expect([...tokens]).toEqual([37]);
    expect(isMasked).toBe(true);
    expect([...filled(entries, mask)]).toEqual([0xffffffff, 3]);
  });

  it('fall back to single tokens where two runs end within a page', () => {
    const row = at(0, { slot: 0, count: 3, queries: -1 }, { slot: 64, count: 5, queries: -1 });
    expect(pageTokensFor([row], 64)).toBe(1);
  });

  it('look at where spans lie, not at where they count from', () => {
    const spans = spansOf([{ slot: 8, count: 64, queries: -1 }]);
    expect(pageTokensFor([rowAt(56, spans)], 64)).toBe(64);
    expect(pageTokensFor([rowAt(0, spans)], 64)).toBe(8);
    expect([...filled(1, pageTablesOf([rowAt(56, spans)], 64).table)]).toEqual([1]);
  });
});

/** Segments that follow each other at gaps of whole pages or of any size. */
const segments = fc
  .array(
    fc.record({
      gap: fc.oneof(fc.integer({ min: 0, max: 70 }), fc.constantFrom(0, 16, 64)),
      count: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.constantFrom(16, 64, 128)),
      queries: fc.constantFrom(-1, 1, 6),
    }),
    { maxLength: 6 },
  )
  .map((list) => {
    let slot = 0;
    return joined(
      list.map(({ gap, count, queries }) => {
        const from = slot + gap;
        slot = from + count;
        return { slot: from, count, queries };
      }),
    );
  });

const rows = fc.array(
  fc.array(fc.record({ base: fc.constantFrom(0, 8, 64, 4096), of: segments }), { maxLength: 3 }),
  { minLength: 1, maxLength: 4 },
);

describe('page tables of any rows', () => {
  it('hold every slot of a row once, with the query heads that read it', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(64, 16, 1), (drawn, limit) => {
        const laid = drawn.map((row) => row.flatMap(({ base, of }) => rowAt(base, spansOf(of))));
        const pageTokens = pageTokensFor(laid, limit);
        expect(limit % pageTokens).toBe(0);
        const { entries, offsets, tokens, table, mask, isMasked } = pageTablesOf(laid, pageTokens);
        const [pages, readers] = [filled(entries, table), filled(entries, mask)];
        expect(offsets[laid.length]).toBe(entries);
        expect(isMasked).toBe(readers.some((one) => one !== 0xffffffff));
        drawn.forEach((row, at) => {
          const want = row.flatMap(({ base, of }) =>
            of.flatMap(({ slot, count, queries }) =>
              Array.from({ length: count }, (_, i) => `${base + slot + i} ${queries >>> 0}`),
            ),
          );
          const got = Array.from({ length: tokens[at] }, (_, i) => {
            const entry = offsets[at] + Math.floor(i / pageTokens);
            return `${pages[entry] * pageTokens + (i % pageTokens)} ${readers[entry]}`;
          });
          expect(got.sort()).toEqual(want.sort());
        });
      }),
      { seed: 42 },
    );
  });
});
