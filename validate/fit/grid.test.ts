/** The grid agrees with what sites show, crosses holes in straight lines, and never leaves what it was shown. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cornersOf } from '../../sim/timing/utilisation.ts';
import { axesOf, gridFit, leftOutErrors } from './grid.ts';

const line = axesOf(
  [{ of: 'bytes', apart: 'fine' }],
  [1024, 2048, 4096, 8192].map((bytes) => ({ bytes })),
);

describe('axesOf', () => {
  it('takes each size once, ascending, and leaves out what does not vary or is not there', () => {
    const sites = [8, 2, 8].map((rows) => ({ rows, bytes: 64 }));
    expect(
      axesOf(
        (['rows', 'bytes', 'parts'] as const).map((of) => ({ of, apart: 'fine' })),
        sites,
      ),
    ).toEqual([{ of: 'rows', at: [1, 3] }]);
  });
});

describe('gridFit', () => {
  it('crosses a hole in a straight line and keeps the nearest share beyond what was shown', () => {
    const shares = gridFit(line, [
      { sizes: { bytes: 1024 }, logShare: 0 },
      { sizes: { bytes: 4096 }, logShare: -1 },
    ]);
    expect(shares[0]).toBeCloseTo(0, 1);
    expect(shares[1]).toBeCloseTo(-0.5, 2);
    expect(shares[3]).toBeCloseTo(shares[2], 6);
  });

  it('stays within what it was shown, whatever that is', () => {
    const axes = axesOf(
      (['rows', 'bytes'] as const).map((of) => ({ of, apart: 'fine' })),
      [1, 2, 4, 32].flatMap((rows) => [64, 256, 1024].map((bytes) => ({ rows, bytes }))),
    );
    const shown = fc.record({
      rows: fc.constantFrom(1, 2, 4, 32),
      bytes: fc.constantFrom(64, 256, 1024),
      logShare: fc.double({ min: -2, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(shown, { minLength: 1, maxLength: 12 }), (all) => {
        const sites = all.map(({ rows, bytes, logShare }) => ({ sizes: { rows, bytes }, logShare }));
        const values = all.map(({ logShare }) => logShare);
        for (const share of gridFit(axes, sites)) {
          expect(share).toBeGreaterThanOrEqual(Math.min(...values) - 1e-6);
          expect(share).toBeLessThanOrEqual(Math.max(...values) + 1e-6);
        }
      }),
      { seed: 42 },
    );
  });
});

describe('leftOutErrors', () => {
  it('are those of fits to all other sites', () => {
    const axes = axesOf(
      (['rows', 'bytes'] as const).map((of) => ({ of, apart: 'coarse' })),
      [1, 2, 4, 32].flatMap((rows) => [64, 70, 256, 1024].map((bytes) => ({ rows, bytes }))),
    );
    const sites = [1, 2, 4, 32].flatMap((rows, i) =>
      [64, 70, 300, 1024].map((bytes, j) => ({
        sizes: { rows, bytes },
        logShare: ((5 * i + 3 * j) % 7) / 7,
      })),
    );
    leftOutErrors(axes, sites).forEach((error, at) => {
      const { sizes, logShare } = sites[at];
      const others = gridFit(
        axes,
        sites.filter((_, other) => other !== at),
      );
      const said = cornersOf(axes, sizes).reduce((sum, { index, weight }) => sum + weight * others[index], 0);
      expect(error).toBeCloseTo(logShare - said, 6);
    });
  });

  it('are all there is to say where nothing varies', () => {
    const level = [0, 1, 5].map((logShare) => ({ sizes: {}, logShare }));
    expect(gridFit([], level)[0]).toBeCloseTo(2, 6);
    expect(leftOutErrors([], level)[2]).toBeCloseTo(4.5, 5);
  });
});
