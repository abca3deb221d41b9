/** Laws of the last cache, whatever is touched in whatever order. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Access, ENTRY_BYTES, LastCache, PIECE_BYTES, piecesOf } from './last-cache.ts';

const ENTRIES = 12;
const WHOLE = -1;

interface Step {
  readonly entry: number;
  readonly mask: number;
  readonly access: Access;
}

const access = fc.constantFrom<Access>('read', 'write', 'through', 'pass');
const entry = fc.integer({ min: 0, max: ENTRIES - 1 });
const mask = fc
  .tuple(fc.integer({ min: 0, max: ENTRY_BYTES - 1 }), fc.integer({ min: 1, max: ENTRY_BYTES }))
  .map(([from, length]) => piecesOf(from, Math.min(ENTRY_BYTES, from + length)));
const steps = fc.array(fc.record({ entry, mask, access }), { maxLength: 120 });
const wholeSteps = fc.array(fc.record({ entry, mask: fc.constant(WHOLE), access }), { maxLength: 120 });

const playedOn = (capacityBytes: number, list: readonly Step[]): LastCache => {
  const cache = new LastCache(capacityBytes, ENTRIES);
  for (const one of list) cache.touch(one.entry, one.mask, one.access);
  return cache;
};

const bits = (pieces: number): number => {
  let count = 0;
  for (let bit = 0; bit < 32; bit++) count += (pieces >>> bit) & 1;
  return count;
};

/** The same cache as a plain list, oldest first. */
const plain = (capacityBytes: number, list: readonly Step[]) => {
  const held: { entry: number; here: Set<number>; changed: Set<number> }[] = [];
  let [readBytes, writtenBytes] = [0, 0];
  for (const one of list) {
    const at = held.findIndex((other) => other.entry === one.entry);
    const own =
      at < 0
        ? { entry: one.entry, here: new Set<number>(), changed: new Set<number>() }
        : held.splice(at, 1)[0];
    for (let bit = 0; bit < 32; bit++) {
      if (((one.mask >>> bit) & 1) === 0) continue;
      if (one.access === 'read' && !own.here.has(bit)) readBytes += PIECE_BYTES;
      if (one.access === 'write') own.changed.add(bit);
      if (one.access === 'through') {
        own.changed.delete(bit);
        writtenBytes += PIECE_BYTES;
      }
      own.here.add(bit);
    }
    held.push(own);
    while (held.reduce((sum, { here }) => sum + here.size * PIECE_BYTES, 0) > capacityBytes)
      writtenBytes += (held.shift()?.changed.size ?? 0) * PIECE_BYTES;
  }
  return { readBytes, writtenBytes };
};

const capacity = fc.integer({ min: 0, max: ENTRIES * ENTRY_BYTES });

describe('the last cache', () => {
  it('does what a plain list of entries by age does', () => {
    fc.assert(
      fc.property(capacity, steps, (bytes, list) => {
        const { readBytes, writtenBytes } = playedOn(bytes, list);
        expect({ readBytes, writtenBytes }).toEqual(plain(bytes, list));
      }),
    );
  });

  it('reads no more than is asked, and writes all that is written but what it still has', () => {
    fc.assert(
      fc.property(capacity, steps, (bytes, list) => {
        const cache = playedOn(bytes, list);
        const asked = (wanted: Access): number =>
          list.reduce((sum, one) => sum + (one.access === wanted ? PIECE_BYTES * bits(one.mask) : 0), 0);
        expect(cache.readBytes).toBeLessThanOrEqual(asked('read'));
        expect(cache.writtenBytes).toBeGreaterThanOrEqual(asked('through'));
        expect(cache.writtenBytes + cache.unwrittenBytes).toBeLessThanOrEqual(
          asked('write') + asked('through'),
        );
      }),
    );
  });

  it('spares nothing without capacity, and every second visit with enough of it', () => {
    fc.assert(
      fc.property(steps, (list) => {
        const none = playedOn(0, list);
        const each = (wanted: (of: Access) => boolean): number =>
          list.reduce((sum, one) => sum + (wanted(one.access) ? PIECE_BYTES * bits(one.mask) : 0), 0);
        expect(none.readBytes).toBe(each((of) => of === 'read'));
        expect(none.writtenBytes).toBe(each((of) => of === 'write' || of === 'through'));
        const first = new Map<number, number>();
        let readBytes = 0;
        for (const one of list) {
          const seen = first.get(one.entry) ?? 0;
          if (one.access === 'read') readBytes += PIECE_BYTES * bits(one.mask & ~seen);
          first.set(one.entry, seen | one.mask);
        }
        expect(playedOn(ENTRIES * ENTRY_BYTES, list).readBytes).toBe(readBytes);
      }),
    );
  });

  it('reads and writes no more when it is larger, of whole entries', () => {
    fc.assert(
      fc.property(capacity, capacity, wholeSteps, (a, b, list) => {
        const small = playedOn(Math.min(a, b), list);
        const large = playedOn(Math.max(a, b), list);
        expect(large.readBytes).toBeLessThanOrEqual(small.readBytes);
        expect(large.writtenBytes).toBeLessThanOrEqual(small.writtenBytes);
      }),
    );
  });

  it('finds what was produced if less than its capacity passed since, and nothing of a longer run', () => {
    const held = 4;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: ENTRIES - 1 }),
        fc.constantFrom<Access>('write', 'through'),
        (run, by) => {
          const cache = new LastCache(held * ENTRY_BYTES, ENTRIES);
          for (let at = 0; at < run; at++) cache.touch(at, WHOLE, by);
          for (let at = 0; at < run; at++) cache.touch(at, WHOLE, 'read');
          expect(cache.readBytes).toBe(run <= held ? 0 : run * ENTRY_BYTES);
        },
      ),
    );
  });

  it('counts begun pieces as whole ones', () => {
    expect(bits(piecesOf(0, ENTRY_BYTES))).toBe(32);
    expect(bits(piecesOf(PIECE_BYTES - 1, PIECE_BYTES + 1))).toBe(2);
    // A row of 96 bytes lies in two pieces wherever a multiple of 96 puts it.
    for (let row = 0; row < 20; row++) expect(bits(piecesOf(96 * row, 96 * row + 96))).toBe(2);
  });
});
