/**
 * Laws that every eviction rule keeps, whatever the trace: the contract of eviction.ts, compulsory misses, Belady's
 * bound, indifference to names, and LRU's inclusion against stack distances counted the naive way.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accessBlock, createBlockCache } from './eviction.ts';
import { evictionNames, loadEviction } from './evictions.ts';
import { type BlockRequests, infiniteHits, replay } from './replay.ts';

const UNIVERSE = 24;

/** Requests of small ids with shared prefixes often enough that every counter moves. */
const requestsArbitrary = fc
  .array(fc.array(fc.nat(UNIVERSE - 1), { maxLength: 12 }), { minLength: 1, maxLength: 40 })
  .map((rows): BlockRequests => {
    const offsets = new Int32Array(rows.length + 1);
    rows.forEach((row, r) => {
      offsets[r + 1] = offsets[r] + row.length;
    });
    return { offsets, blockIds: Int32Array.from(rows.flat()), uniqueBlocks: UNIVERSE };
  });
const capacityArbitrary = fc.integer({ min: 1, max: UNIVERSE + 2 });
const countings = ['prefix', 'block'] as const;
const run = { seed: 42, numRuns: 200 };

const hitsOf = (name: string, capacityBlocks: number, requests: BlockRequests, counting = countings[1]) =>
  replay({ eviction: loadEviction(name), capacityBlocks, requests, counting: counting as 'prefix' | 'block' })
    .hits;

describe.each([...evictionNames])('%s', (name) => {
  it('keeps exactly what was inserted and not evicted, within its capacity', () => {
    fc.assert(
      fc.property(requestsArbitrary, capacityArbitrary, ({ blockIds }, capacityBlocks) => {
        const cache = createBlockCache(loadEviction(name), {
          capacityBlocks,
          universe: UNIVERSE,
          future: blockIds,
        });
        const resident = new Set<number>();
        for (const id of blockIds) {
          expect(cache.has(id)).toBe(resident.has(id));
          if (resident.has(id)) cache.touch(id);
          else {
            if (resident.size === capacityBlocks) expect(resident.delete(cache.evict(id))).toBe(true);
            cache.insert(id);
            resident.add(id);
          }
          expect(cache.residentBlocks).toBe(resident.size);
        }
        for (let id = 0; id < UNIVERSE; id++) expect(cache.has(id)).toBe(resident.has(id));
      }),
      run,
    );
  });

  it.each(countings)('leaves only compulsory misses where everything fits (%s hits)', (counting) => {
    fc.assert(
      fc.property(requestsArbitrary, (requests) => {
        const hits = replay({
          eviction: loadEviction(name),
          capacityBlocks: UNIVERSE,
          requests,
          counting,
        }).hits;
        expect(hits).toBe(infiniteHits(requests, counting));
      }),
      run,
    );
  });

  it.each(countings)('misses everything without capacity (%s hits)', (counting) => {
    fc.assert(
      fc.property(requestsArbitrary, (requests) => {
        expect(replay({ eviction: loadEviction(name), capacityBlocks: 0, requests, counting }).hits).toBe(0);
      }),
      run,
    );
  });

  it('never beats Belady in block hits', () => {
    fc.assert(
      fc.property(requestsArbitrary, capacityArbitrary, (requests, capacity) => {
        expect(hitsOf(name, capacity, requests)).toBeLessThanOrEqual(hitsOf('belady', capacity, requests));
      }),
      run,
    );
  });

  it.each(countings)('does not care how blocks are named (%s hits)', (counting) => {
    fc.assert(
      fc.property(
        requestsArbitrary,
        capacityArbitrary,
        fc.nat(UNIVERSE - 1),
        (requests, capacityBlocks, shift) => {
          // x -> 7x + shift is a bijection modulo 24.
          const blockIds = requests.blockIds.map((id) => (7 * id + shift) % UNIVERSE);
          const eviction = loadEviction(name);
          const renamed = replay({ eviction, capacityBlocks, requests: { ...requests, blockIds }, counting });
          expect(renamed).toEqual(replay({ eviction, capacityBlocks, requests, counting }));
        },
      ),
      run,
    );
  });

  it.each(countings)(
    'survives requests larger than the tier and ids repeated in one request (%s hits)',
    (counting) => {
      const blockIds = Int32Array.of(0, 1, 2, 3, 4, 5, 0, 1, 2, 2, 2, 3, 0, 1);
      const requests = { offsets: Int32Array.of(0, 6, 12, 14), blockIds, uniqueBlocks: 6 };
      for (const capacityBlocks of [1, 2, 3, 5, 6]) {
        const { hits, accesses } = replay({
          eviction: loadEviction(name),
          capacityBlocks,
          requests,
          counting,
        });
        expect(accesses).toBe(14);
        expect(hits).toBeLessThanOrEqual(infiniteHits(requests, counting));
      }
    },
  );
});

/** Distinct blocks accessed since the last access to the same block, itself included; Infinity at first. */
const stackDistances = (blockIds: Int32Array): number[] => {
  const stack: number[] = [];
  return Array.from(blockIds, (id) => {
    const depth = stack.indexOf(id);
    if (depth >= 0) stack.splice(depth, 1);
    stack.unshift(id);
    return depth < 0 ? Number.POSITIVE_INFINITY : depth + 1;
  });
};

describe('LRU', () => {
  it('hits exactly the accesses whose stack distance fits, at every capacity', () => {
    fc.assert(
      fc.property(requestsArbitrary, (requests) => {
        const distances = stackDistances(requests.blockIds);
        for (let capacity = 0; capacity <= UNIVERSE; capacity++) {
          const expected = distances.filter((distance) => distance <= capacity).length;
          expect(hitsOf('lru', capacity, requests)).toBe(expected);
        }
      }),
      { seed: 42, numRuns: 60 },
    );
  });
});

describe('Belady', () => {
  it('is the optimum that exhaustive search finds', () => {
    const optimum = (
      blockIds: readonly number[],
      at: number,
      resident: readonly number[],
      capacity: number,
    ): number => {
      if (at === blockIds.length) return 0;
      const id = blockIds[at];
      if (resident.includes(id)) return 1 + optimum(blockIds, at + 1, resident, capacity);
      if (resident.length < capacity) return optimum(blockIds, at + 1, [...resident, id], capacity);
      const after = resident.map((_, out) =>
        optimum(blockIds, at + 1, [...resident.filter((_b, k) => k !== out), id], capacity),
      );
      return Math.max(...after);
    };
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 11 }), fc.integer({ min: 1, max: 3 }), (ids, capacity) => {
        const requests = {
          offsets: Int32Array.of(0, ids.length),
          blockIds: Int32Array.from(ids),
          uniqueBlocks: 6,
        };
        expect(hitsOf('belady', capacity, requests)).toBe(optimum(ids, 0, [], capacity));
      }),
      run,
    );
  });

  it('says so when the accesses are not the foreseen ones', () => {
    const future = Int32Array.of(0, 1);
    const cache = createBlockCache(loadEviction('belady'), { capacityBlocks: 2, universe: 2, future });
    accessBlock(cache, 0);
    expect(() => accessBlock(cache, 0)).toThrow(/more often than foreseen/);
  });
});

describe('bad input', () => {
  it.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses a capacity of %s blocks',
    (capacityBlocks) => {
      expect(() => createBlockCache(loadEviction('lru'), { capacityBlocks, universe: 1 })).toThrow(
        /capacityBlocks/,
      );
    },
  );

  it('names rule and field of a wrong parameter', () => {
    const create = (config: Record<string, unknown>) => () =>
      createBlockCache(loadEviction('s3fifo'), { capacityBlocks: 4, universe: 4, config });
    expect(create({ smallRatio: 2 })).toThrow(/s3fifo\.smallRatio/);
    expect(create({ smalRatio: 0.1 })).toThrow(/smalRatio/);
  });

  it('suggests names that look like an unknown one, and forgives separators', () => {
    expect(() => loadEviction('siv')).toThrow(/unknown eviction 'siv': did you mean .*sieve/);
    expect(loadEviction('S3-FIFO').kind).toBe('s3fifo');
  });
});
