/**
 * Rules against small naive models that follow the papers' pseudo-code literally, with arrays and linear search:
 * the same victim at every step.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBlockCache } from './eviction.ts';
import { loadEviction } from './evictions.ts';

/** Accesses a block; returns the victim, or -1, or 'hit'. Newest first in all arrays. */
type Model = (id: number) => number | 'hit';

const take = (list: number[], id: number): boolean => {
  const at = list.indexOf(id);
  if (at >= 0) list.splice(at, 1);
  return at >= 0;
};
const popOldest = (list: number[]): number => list.pop() ?? -1;

const sieveModel = (capacity: number): Model => {
  const queue: { id: number; visited: boolean }[] = [];
  let hand: { id: number; visited: boolean } | undefined;
  return (id) => {
    const found = queue.find((entry) => entry.id === id);
    if (found !== undefined) {
      found.visited = true;
      return 'hit';
    }
    let victim = -1;
    if (queue.length === capacity) {
      let entry = hand ?? queue[queue.length - 1];
      while (entry.visited) {
        entry.visited = false;
        entry = queue[queue.indexOf(entry) - 1] ?? queue[queue.length - 1];
      }
      const at = queue.indexOf(entry);
      hand = queue[at - 1];
      queue.splice(at, 1);
      victim = entry.id;
    }
    queue.unshift({ id, visited: false });
    return victim;
  };
};

/** Figure 4 of Megiddo & Modha 2003, case by case. */
const arcModel = (c: number): Model => {
  const t1: number[] = [];
  const t2: number[] = [];
  const b1: number[] = [];
  const b2: number[] = [];
  let p = 0;
  const replace = (inB2: boolean): number => {
    const fromT1 = t1.length > 0 && (t1.length > p || (inB2 && t1.length === p));
    const victim = popOldest(fromT1 ? t1 : t2);
    (fromT1 ? b1 : b2).unshift(victim);
    return victim;
  };
  return (id) => {
    if (take(t1, id) || take(t2, id)) {
      t2.unshift(id);
      return 'hit';
    }
    if (b1.includes(id) || b2.includes(id)) {
      const inB2 = b2.includes(id);
      if (inB2) p = Math.max(0, p - Math.max(1, b1.length / b2.length));
      else p = Math.min(c, p + Math.max(1, b2.length / b1.length));
      const victim = replace(inB2);
      take(b1, id);
      take(b2, id);
      t2.unshift(id);
      return victim;
    }
    let victim = -1;
    if (t1.length + b1.length === c) {
      if (t1.length < c) {
        popOldest(b1);
        victim = replace(false);
      } else victim = popOldest(t1);
    } else if (t1.length + t2.length + b1.length + b2.length >= c) {
      if (t1.length + t2.length + b1.length + b2.length === 2 * c) popOldest(b2);
      victim = replace(false);
    }
    t1.unshift(id);
    return victim;
  };
};

/** Algorithm 1 of Yang et al. 2023; the small queue gives way once it holds more than its share. */
const s3fifoModel = (capacity: number): Model => {
  const smallBlocks = Math.floor(capacity / 10);
  let small: { id: number; hits: number }[] = [];
  let main: { id: number; hits: number }[] = [];
  const ghosts: number[] = [];
  const evictSmall = (): number => {
    const oldest = small[small.length - 1];
    if (oldest === undefined) return -1;
    small = small.slice(0, -1);
    if (oldest.hits > 1) {
      main.unshift({ id: oldest.id, hits: 0 });
      return evictSmall();
    }
    ghosts.unshift(oldest.id);
    if (ghosts.length > capacity - smallBlocks) ghosts.pop();
    return oldest.id;
  };
  const evictMain = (): number => {
    const oldest = main[main.length - 1];
    main = main.slice(0, -1);
    if (oldest.hits === 0) return oldest.id;
    main.unshift({ id: oldest.id, hits: oldest.hits - 1 });
    return -1;
  };
  const evictOnce = (): number =>
    small.length > smallBlocks || main.length === 0 ? evictSmall() : evictMain();
  return (id) => {
    const found = small.find((entry) => entry.id === id) ?? main.find((entry) => entry.id === id);
    if (found !== undefined) {
      found.hits = Math.min(3, found.hits + 1);
      return 'hit';
    }
    let victim = -1;
    while (small.length + main.length === capacity) victim = evictOnce();
    (take(ghosts, id) ? main : small).unshift({ id, hits: 0 });
    return victim;
  };
};

const lfuModel = (capacity: number): Model => {
  const resident: { id: number; accesses: number; last: number }[] = [];
  let now = 0;
  return (id) => {
    now++;
    const found = resident.find((entry) => entry.id === id);
    if (found !== undefined) {
      found.accesses++;
      found.last = now;
      return 'hit';
    }
    let victim = -1;
    if (resident.length === capacity) {
      resident.sort((a, b) => b.accesses - a.accesses || b.last - a.last);
      victim = resident.pop()?.id ?? -1;
    }
    resident.push({ id, accesses: 1, last: now });
    return victim;
  };
};

const models: Readonly<Record<string, (capacity: number) => Model>> = {
  sieve: sieveModel,
  arc: arcModel,
  s3fifo: s3fifoModel,
  lfu: lfuModel,
};

describe.each(Object.keys(models))('%s', (name) => {
  it('evicts what the naive model evicts', () => {
    const skewed = fc.oneof(fc.nat(5), fc.nat(39));
    fc.assert(
      fc.property(
        fc.array(skewed, { maxLength: 400 }),
        fc.integer({ min: 1, max: 25 }),
        (ids, capacityBlocks) => {
          const cache = createBlockCache(loadEviction(name), { capacityBlocks, universe: 40 });
          const model = models[name](capacityBlocks);
          for (const id of ids) {
            const expected = model(id);
            expect(cache.has(id)).toBe(expected === 'hit');
            if (cache.has(id)) cache.touch(id);
            else {
              expect(cache.residentBlocks === capacityBlocks ? cache.evict(id) : -1).toBe(expected);
              cache.insert(id);
            }
          }
        },
      ),
      { seed: 42, numRuns: 300 },
    );
  });
});
