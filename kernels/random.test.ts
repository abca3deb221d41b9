/** The 32-bit arithmetic of SplitMix64 against its definition in 64-bit integers, and its published first values. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createRandom, oddOnly } from './random.ts';

const MASK = (1n << 64n) - 1n;

const defined = (seed: number, count: number): readonly number[] => {
  let state = BigInt(seed) & MASK;
  return Array.from({ length: count }, () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return Number((z ^ (z >> 31n)) >> 32n);
  });
};

it('is SplitMix64 for any seed', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (seed) => {
      const random = createRandom(seed);
      expect(Array.from({ length: 50 }, random.uint32)).toEqual(defined(seed, 50));
    }),
    { seed: 42 },
  );
});

it('starts as published for seed 0', () => {
  // 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4: https://prng.di.unimi.it/splitmix64.c
  const random = createRandom(0);
  expect([random.uint32(), random.uint32()]).toEqual([0xe220a839, 0x6e789e6a]);
});

it('draws odd numbers wherever there are some', () => {
  const random = oddOnly(createRandom(1));
  for (let i = 0; i < 100; i++) {
    const drawn = [random.integer(1, 4), random.integer(0, 3), random.among([16, 25, 64, 7])];
    expect(drawn.map((each) => each % 2)).toEqual([1, 1, 1]);
    expect(Math.max(drawn[0], drawn[1])).toBeLessThan(4);
    expect([random.integer(2, 2), random.among([64])]).toEqual([2, 64]);
  }
});
