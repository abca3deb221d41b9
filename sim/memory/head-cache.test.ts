/** The ledger of one KV head against a plain model of it: bytes are conserved whatever a policy does. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HeadCache, IN_DRAM, IN_HBM, IN_NVME, type KvTier } from './head-cache.ts';

const forms = [
  { name: 'raw', kBytesPerToken: 64, vBytesPerToken: 64 },
  { name: 'coded', kBytesPerToken: 32, vBytesPerToken: 16 },
];
const CAPACITY = 60;
/** From the fastest on. */
const tiers = ['hbm', 'dram', 'nvme'] as const satisfies readonly KvTier[];

const range = fc
  .tuple(fc.nat(CAPACITY), fc.nat(CAPACITY))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const action = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ kind: fc.constant('drop' as const), range }),
  fc.record({
    kind: fc.constant('move' as const),
    range,
    tier: fc.constantFrom(...tiers),
    keep: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('recode' as const), range, form: fc.constantFrom(0, 1) }),
);

type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

interface Token {
  tiers: Set<KvTier>;
  form: number;
}

const sizeOf = (tokens: readonly Token[], tier: KvTier): number =>
  tokens.reduce(
    (sum, t) => sum + (t.tiers.has(tier) ? forms[t.form].kBytesPerToken + forms[t.form].vBytesPerToken : 0),
    0,
  );

/** Plays one action on both; returns the tokens that crossed a boundary in the model. */
const play = (cache: HeadCache, model: Token[], a: Action, crossings: Map<string, number>): number => {
  if (a.kind === 'append') {
    const count = Math.min(a.count, CAPACITY - model.length);
    cache.append(count);
    for (let i = 0; i < count; i++) model.push({ tiers: new Set(['hbm']), form: 0 });
    return 0;
  }
  const [from, to] = [Math.min(a.range[0], model.length), Math.min(a.range[1], model.length)];
  const touched = model.slice(from, to);
  if (a.kind === 'drop') {
    cache.drop(from, to);
    for (const token of touched) token.tiers.clear();
    return 0;
  }
  if (a.kind === 'recode') {
    cache.recode(from, to, a.form);
    for (const token of touched) if (token.tiers.size > 0) token.form = a.form;
    return 0;
  }
  if (touched.some((token) => token.tiers.size === 0)) return 0;
  cache.move(from, to, a.tier, a.keep);
  let crossed = 0;
  for (const token of touched) {
    const source = tiers.find((tier) => token.tiers.has(tier));
    if (source !== undefined && !token.tiers.has(a.tier)) {
      crossed++;
      crossings.set(`${source}->${a.tier}`, (crossings.get(`${source}->${a.tier}`) ?? 0) + 1);
    }
    if (!a.keep) token.tiers.clear();
    token.tiers.add(a.tier);
  }
  return crossed;
};

describe('a head cache', () => {
  test('keeps the books of a plain model through any sequence of actions', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const cache = new HeadCache(CAPACITY, forms);
        const model: Token[] = [];
        let crossed = 0;
        const crossings = new Map<string, number>();
        for (const a of actions) {
          crossed += play(cache, model, a, crossings);
          for (const tier of tiers) expect(cache.residentBytes(tier)).toBe(sizeOf(model, tier));
          expect(cache.liveTokens).toBe(model.filter((token) => token.tiers.size > 0).length);
          model.forEach((token, at) => {
            expect(cache.place[at]).toBe(
              (token.tiers.has('hbm') ? IN_HBM : 0) |
                (token.tiers.has('dram') ? IN_DRAM : 0) |
                (token.tiers.has('nvme') ? IN_NVME : 0),
            );
          });
        }
        expect(cache.movements.reduce((sum, movement) => sum + movement.tokens, 0)).toBe(crossed);
        const logged = new Map<string, number>();
        for (const { from, to, tokens } of cache.movements)
          logged.set(`${from}->${to}`, (logged.get(`${from}->${to}`) ?? 0) + tokens);
        expect(logged).toEqual(crossings);
      }),
      { seed: 42, numRuns: 300 },
    );
  });

  test('moves of a dropped token, and appends past the end, stop the run', () => {
    const cache = new HeadCache(4, forms);
    cache.append(3);
    cache.drop(1, 2);
    expect(() => cache.move(0, 3, 'dram')).toThrow(/token 1 moved to dram after it was dropped/);
    expect(() => cache.append(2)).toThrow(/cache of 4 tokens cannot take 5/);
    expect(() => cache.recode(0, 1, 2)).toThrow(/no stored form 2/);
  });

  test('replicated tokens count once a copy', () => {
    const cache = new HeadCache(4, forms, 3);
    cache.append(2);
    expect(cache.residentBytes('hbm')).toBe(2 * 3 * 128);
    cache.setCopies(0, 1);
    expect(cache.residentBytes('hbm')).toBe(4 * 128);
    cache.setCopies(0, 0);
    expect(cache.isLive(0)).toBe(false);
    cache.setMeta('index', 'hbm', 100);
    expect(cache.residentBytes('hbm')).toBe(3 * 128 + 100);
  });

  test('slots of query heads are copies beside the one in DRAM, and each new one crosses', () => {
    const cache = new HeadCache(4, forms);
    cache.append(2);
    expect(() => cache.setSlots(0, 1, 1)).toThrow(/token 0 takes a slot in hbm, but dram does not hold it/);
    cache.move(0, 2, 'dram');
    cache.drain();
    cache.setSlots(0, 1, 1);
    cache.setSlots(0, 3, 2);
    cache.setSlots(1, 2, 2);
    expect(cache.movements).toEqual([{ from: 'dram', to: 'hbm', form: 0, tokens: 5 }]);
    expect(cache.residentBytes('hbm')).toBe(5 * 128);
    cache.setSlots(0, 2, 0);
    cache.setSlots(1, 0, 0);
    expect(cache.residentBytes('hbm')).toBe(2 * 128);
    expect(cache.residentBytes('dram')).toBe(2 * 128);
    expect(cache.movements[0].tokens).toBe(5);
    expect(cache.place[1]).toBe(IN_DRAM);
  });
});
