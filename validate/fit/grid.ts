/**
 * Tables of utilisation from sites: the shares at a grid's points that agree with what the sites show, and where no site
 * lies, vary as little as they can from point to point in the logarithms of the sizes (a discrete membrane: between two
 * known points of a line that is the straight line, and no share leaves the known ones around it). Conjugate gradients
 * (Hestenes and Stiefel 1952).
 */

import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import type { Sizes } from '../../sim/timing/sizes.ts';
import { type Axis, type Corner, cornersOf } from '../../sim/timing/utilisation.ts';

/** What a site says: the logarithm of measured speed over the law's, at its sizes. */
export interface Shown {
  readonly sizes: Sizes;
  readonly logShare: number;
}

/** Weight of a difference between neighbours an octave apart against that of a site's error. */
const STIFFNESS = 0.005;
const TOLERANCE = 1e-9;
/** Sizes along which the speed at one point says less of the next: other turns, other work, more rows of the same bytes. */
const LOOSE: Partial<Record<SizeName, number>> = {
  queryRows: 0.05,
  turns: 0.05,
  writeShare: 0.05,
  rows: 0.3,
  candidates: 0.3,
  way: 0.05,
};
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

interface Edge {
  readonly from: number;
  readonly to: number;
  readonly weight: number;
}

const pointsOf = (axes: readonly Axis[]): number => axes.reduce((points, { at }) => points * at.length, 1);

/** Neighbours of the grid along each axis. */
const edgesOf = (axes: readonly Axis[]): readonly Edge[] => {
  const edges: Edge[] = [];
  let stride = pointsOf(axes);
  for (const { of, at } of axes) {
    stride /= at.length;
    const loose = LOOSE[of];
    const stiffness = STIFFNESS * (loose ?? 1);
    // Other kinds of work are no nearer for numbers that are.
    const apart = (octaves: number): number => (loose === undefined ? octaves : Math.max(1, octaves));
    for (let point = 0; point < pointsOf(axes); point++) {
      const place = Math.floor(point / stride) % at.length;
      if (place + 1 < at.length)
        edges.push({ from: point, to: point + stride, weight: stiffness / apart(at[place + 1] - at[place]) });
    }
  }
  return edges;
};

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

/** Solves matrix · x = right for a positive definite matrix given by its product. */
const conjugateGradients = (
  product: (x: Float64Array) => Float64Array,
  right: Float64Array,
  tolerance: number,
): Float64Array => {
  const x = new Float64Array(right.length);
  const rest = Float64Array.from(right);
  const way = Float64Array.from(rest);
  let size = dot(rest, rest);
  const enough = tolerance * tolerance * size;
  for (let turn = 0; turn < 4 * right.length && size > enough; turn++) {
    const moved = product(way);
    const step = size / dot(way, moved);
    for (let i = 0; i < x.length; i++) {
      x[i] += step * way[i];
      rest[i] -= step * moved[i];
    }
    const next = dot(rest, rest);
    for (let i = 0; i < way.length; i++) way[i] = rest[i] + (next / size) * way[i];
    size = next;
  }
  return x;
};

/** A site's place on a grid, and what it says. */
export interface Placed {
  readonly corners: readonly Corner[];
  readonly logShare: number;
}

/** Places of sites on a grid; those that lack one of its sizes have none. */
export const placesOf = (axes: readonly Axis[], shown: readonly Shown[]): readonly Placed[] =>
  shown.flatMap(({ sizes, logShare }) =>
    axes.some(({ of }) => sizes[of] === undefined) ? [] : [{ corners: cornersOf(axes, sizes), logShare }],
  );

/** Logarithm of the share at a place. */
export const logShareAt = (corners: readonly Corner[], logShares: Float64Array): number => {
  let sum = 0;
  for (const { index, weight } of corners) sum += weight * logShares[index];
  return sum;
};

/** Sites' corners, one behind the other: those of site i from `starts[i]` to `starts[i + 1]`. */
const flatCorners = (sites: readonly Placed[]) => {
  const all = sites.flatMap(({ corners }) => corners);
  const starts = new Int32Array(sites.length + 1);
  sites.forEach(({ corners }, i) => {
    starts[i + 1] = starts[i] + corners.length;
  });
  return {
    starts,
    index: Int32Array.from(all, ({ index }) => index),
    weight: Float64Array.from(all, ({ weight }) => weight),
  };
};

/** Fits of one grid to any sites: logarithms of the shares at its points, as exactly as `tolerance` asks. */
export const gridFit = (axes: readonly Axis[]) => {
  const points = pointsOf(axes);
  const edges = edgesOf(axes);
  const from = Int32Array.from(edges, (edge) => edge.from);
  const to = Int32Array.from(edges, (edge) => edge.to);
  const pulls = Float64Array.from(edges, (edge) => edge.weight);
  return (sites: readonly Placed[], tolerance = TOLERANCE): Float64Array => {
    const { starts, index, weight } = flatCorners(sites);
    const right = new Float64Array(points);
    sites.forEach(({ logShare }, i) => {
      for (let at = starts[i]; at < starts[i + 1]; at++) right[index[at]] += weight[at] * logShare;
    });
    const out = new Float64Array(points);
    const product = (x: Float64Array): Float64Array => {
      out.fill(0);
      for (let i = 0; i < sites.length; i++) {
        let value = 0;
        for (let at = starts[i]; at < starts[i + 1]; at++) value += weight[at] * x[index[at]];
        for (let at = starts[i]; at < starts[i + 1]; at++) out[index[at]] += weight[at] * value;
      }
      for (let edge = 0; edge < pulls.length; edge++) {
        const pull = pulls[edge] * (x[from[edge]] - x[to[edge]]);
        out[from[edge]] += pull;
        out[to[edge]] -= pull;
      }
      return out;
    };
    return conjugateGradients(product, right, tolerance);
  };
};
