/**
 * Shares of a law's speed that the kernels of a stack were measured to reach, on a grid of sizes: what tiles, waves and the
 * way in which rows are shared among multiprocessors do, and a smooth law can't say. Between the grid's points the
 * logarithm of the share is linear in the logarithms of the sizes, so that it never leaves the shares around it; beyond
 * the grid's edge the nearest share holds.
 */
import { exp, log, log2 } from '../engine/math.ts';
import type { Stack } from '../hardware/stack-schema.ts';
import type { SizeName } from '../hardware/utilisation-schema.ts';
import type { Sizes } from './sizes.ts';

/** A grid's axis: a size, and base-2 logarithms of where it was measured, ascending. */
export interface Axis {
  readonly of: SizeName;
  readonly at: readonly number[];
}

export interface Utilisation {
  readonly axes: readonly Axis[];
  /** Natural logarithms of the shares, last axis fastest. */
  readonly logShares: readonly number[];
}

/** A point of the grid, and how much it counts for a size. */
export interface Corner {
  readonly index: number;
  readonly weight: number;
}

/** Place on an axis: the point below, and how far it is to the next, 0..1. */
export type Place = readonly [below: number, far: number];

/** The place of a size's logarithm. */
export const placeOn = (at: readonly number[], x: number): Place => {
  if (!(x > at[0])) return [0, 0];
  let below = 0;
  while (below + 1 < at.length && at[below + 1] <= x) below++;
  return below + 1 === at.length ? [below, 0] : [below, (x - at[below]) / (at[below + 1] - at[below])];
};

/** Points of the grid around a size, with weights that sum to 1: all along an axis, of work that does not say its size. */
export const cornersOf = (axes: readonly Axis[], sizes: Sizes): readonly Corner[] => {
  let corners: readonly Corner[] = [{ index: 0, weight: 1 }];
  for (const { of, at } of axes) {
    const size = sizes[of];
    if (size === undefined) {
      corners = corners.flatMap(({ index, weight }) =>
        at.map((_, place) => ({ index: index * at.length + place, weight: weight / at.length })),
      );
      continue;
    }
    const [below, far] = placeOn(at, log2(size));
    corners = corners.flatMap(({ index, weight }) => {
      const first = { index: index * at.length + below, weight: weight * (1 - far) };
      return far === 0 ? [first] : [first, { index: first.index + 1, weight: weight * far }];
    });
  }
  return corners;
};

/** Time of work of these sizes over what its law says; 1 without a table. */
export const timeRatioOf = (table: Utilisation | undefined, sizes: Sizes): number => {
  if (table === undefined) return 1;
  let sum = 0;
  for (const { index, weight } of cornersOf(table.axes, sizes)) sum += weight * table.logShares[index];
  return exp(-sum);
};

type Table = NonNullable<Stack['utilisation']>[string];

/** Tables are large, and a fit resolves a machine each time that it moves a number. */
const known = new WeakMap<Table, Utilisation>();

const logarithmsOf = (table: Table): Utilisation => {
  const before = known.get(table);
  if (before !== undefined) return before;
  const { axes, shares } = table;
  const made = {
    axes: axes.map(({ of, at }) => ({ of, at: at.map((size) => log2(size)) })),
    logShares: shares.map((share) => log(share)),
  };
  known.set(table, made);
  return made;
};

/** The tables of a stack by the name of the law; a table must not change once it was asked for. */
export const utilisationOf = ({ utilisation = {} }: Stack): Readonly<Record<string, Utilisation>> =>
  Object.fromEntries(Object.entries(utilisation).map(([name, table]) => [name, logarithmsOf(table)]));
