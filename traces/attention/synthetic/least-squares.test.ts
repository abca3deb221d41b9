/** The solver finds what a function was made from, and stays between its bounds. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { solveBounded } from './least-squares.ts';

const bounds = [
  [-1, 1],
  [0, 2],
] as const;
/** Bent, and with unknowns that trade against each other. */
const bent = ([a, b]: readonly number[]): readonly number[] => [
  a + 0.3 * a * a + 0.5 * b,
  b - 0.4 * a,
  a * b,
];

describe('bounded least squares', () => {
  it('finds the unknowns that gave the values', () => {
    const inside = fc.tuple(
      fc.double({ min: -0.9, max: 0.9, noNaN: true }),
      fc.double({ min: 0.1, max: 1.9, noNaN: true }),
    );
    fc.assert(
      fc.property(inside, (truth) => {
        const goal = bent(truth);
        const x = solveBounded((tried) => bent(tried).map((value, i) => value - goal[i]), {
          start: [0, 1],
          bounds,
        });
        const miss = bent(x).map((value, i) => Math.abs(value - goal[i]));
        expect(Math.max(...miss)).toBeLessThan(0.03);
      }),
      { seed: 42 },
    );
  });

  it('ends at the bound that is nearest to what cannot be reached', () => {
    const x = solveBounded(([a, b]) => [a - 5, b + 3], { start: [0, 1], bounds });
    expect(x).toEqual([1, 0]);
  });
});
