/**
 * Tables of utilisation from sites: the shares at a grid's points that agree with what the sites show, and where no site
 * lies, vary as little as they can (membrane.ts).
 */

import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import type { Sizes } from '../../sim/timing/sizes.ts';
import { type Axis, cornersOf, placeOn } from '../../sim/timing/utilisation.ts';
import { inverseOfDefinite } from './definite.ts';
import { membraneOn } from './membrane.ts';

/** What a site says: the logarithm of measured speed over the law's, at its sizes. */
export interface Shown {
  readonly sizes: Sizes;
  readonly logShare: number;
}

/** Sizes closer than this (in octaves) are one, where an axis is fine and where it is coarse. */
const APART = { fine: 1e-3, coarse: 0.25 };
/** No axis has more points than this. */
const MANY = 64;

/** A size to tabulate by, and how finely. */
export interface AxisChoice {
  readonly of: SizeName;
  readonly apart: keyof typeof APART;
}

/** Sizes (in octaves) in ascending order, each further than `apart` from the one before. */
const pointsApart = (logs: readonly number[], apart: number): readonly number[] => {
  const at: number[] = [];
  for (const x of [...logs].sort((a, b) => a - b)) if (x - (at.at(-1) ?? -Infinity) > apart) at.push(x);
  return at;
};

/** The sizes at which axes were measured; those along which nothing varies are left out. */
export const axesOf = (choices: readonly AxisChoice[], sites: readonly Sizes[]): readonly Axis[] =>
  choices.flatMap(({ of, apart }): Axis[] => {
    const known = sites.filter((sizes) => Object.keys(sizes).length > 0);
    const logs = known.flatMap((sizes) => (sizes[of] === undefined ? [] : [Math.log2(sizes[of])]));
    const all = pointsApart(logs, APART[apart]);
    const at = all.length > MANY ? pointsApart(logs, APART.coarse) : all;
    return at.length > 1 && logs.length === known.length ? [{ of, at }] : [];
  });

/** A grid along which nothing varies. */
const LEVEL: Axis = { of: 'bytes', at: [0] };

/** Sites that have all sizes of a grid, and how they pull its membrane to where it agrees with them as far as it can. */
const pulledBy = (axes: readonly Axis[], shown: readonly Shown[]) => {
  const grid = axes.length > 0 ? axes : [LEVEL];
  const placed = shown.filter(({ sizes }) => axes.every(({ of }) => sizes[of] !== undefined));
  const membrane = membraneOn(grid);
  const give = membrane.movedTogether(
    grid.map(({ of, at }) => placed.map(({ sizes }) => placeOn(at, Math.log2(sizes[of] ?? 1)))),
  );
  const sites = placed.length;
  for (let i = 0; i < sites; i++) give[i * sites + i] += 1;
  const inverse = inverseOfDefinite(give, sites);
  const pulls = placed.map((_, i) =>
    placed.reduce((sum, { logShare }, j) => sum + inverse[i * sites + j] * logShare, 0),
  );
  return { grid, placed, membrane, pulls, stiffness: (site: number) => inverse[site * (sites + 1)] };
};

/** Logarithms of the shares at a grid's points, last axis fastest, that agree with what sites show. */
export const gridFit = (axes: readonly Axis[], shown: readonly Shown[]): Float64Array => {
  const { grid, placed, membrane, pulls } = pulledBy(axes, shown);
  const atPoints = new Float64Array(grid.reduce((points, { at }) => points * at.length, 1));
  placed.forEach(({ sizes }, i) => {
    for (const { index, weight } of cornersOf(grid, sizes)) atPoints[index] += weight * pulls[i];
  });
  return membrane.moved(atPoints);
};

/** What each site shows less what all others say of it, without a fit for each (Allen 1974). */
export const leftOutErrors = (axes: readonly Axis[], shown: readonly Shown[]): readonly number[] => {
  const { pulls, stiffness } = pulledBy(axes, shown);
  return pulls.map((pull, site) => pull / stiffness(site));
};
