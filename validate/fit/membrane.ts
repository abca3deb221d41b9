/**
 * A membrane over a grid: shares at its points that vary as little as they can from point to point in the logarithms of the
 * sizes (between two known points of a line that is the straight line, and no share leaves the known ones around it). Its
 * stiffness is a sum over axes, so the modes of single axes solve the whole of it at once (Lynch, Rice and Thomas 1964), and
 * how far sites move each other follows from their places, whatever they show.
 */
import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import { symmetricEigen } from '../../sim/policy/eigen.ts';
import type { Axis, Place } from '../../sim/timing/utilisation.ts';

/** Weight of a difference between neighbours an octave apart against that of a site's error. */
const STIFFNESS = 0.005;
/** Sizes along which the speed at one point says less of the next: other turns, other work, more rows of the same bytes. */
const LOOSE: Partial<Record<SizeName, number>> = {
  queryRows: 0.05,
  turns: 0.05,
  writeShare: 0.05,
  rows: 0.3,
  candidates: 0.3,
  way: 0.05,
};
/** Holds all points next to nowhere, so that sites alone decide at what level the membrane lies. */
const RIDGE = 1e-9;

/** What the points of an axis do together, each without the others. */
interface Modes {
  readonly points: number;
  readonly stiffness: Float64Array;
  /** Row-major [modes, points]. */
  readonly vectors: Float64Array;
}

const modesOf = ({ of, at }: Axis): Modes => {
  const points = at.length;
  const loose = LOOSE[of];
  // Other kinds of work are no nearer for numbers that are.
  const apart = (octaves: number): number => (loose === undefined ? octaves : Math.max(1, octaves));
  const matrix = new Float64Array(points * points);
  for (let i = 0; i + 1 < points; i++) {
    const pull = (STIFFNESS * (loose ?? 1)) / apart(at[i + 1] - at[i]);
    matrix[i * points + i] += pull;
    matrix[i * points + i + 1] -= pull;
    matrix[(i + 1) * points + i] -= pull;
    matrix[(i + 1) * points + i + 1] += pull;
  }
  const { values, vectors } = symmetricEigen(matrix, points);
  return { points, stiffness: values.map((value) => Math.max(0, value)), vectors };
};

/** Sums along an axis, from points to modes or back; `inner` values lie between two points of it. */
const turned = (
  values: Float64Array,
  { points, vectors }: Modes,
  inner: number,
  toModes: boolean,
): Float64Array => {
  const out = new Float64Array(values.length);
  const [toStep, fromStep] = toModes ? [points, 1] : [1, points];
  for (let block = 0; block < values.length; block += points * inner)
    for (let to = 0; to < points; to++)
      for (let from = 0; from < points; from++) {
        const weight = vectors[to * toStep + from * fromStep];
        const [into, of] = [block + to * inner, block + from * inner];
        for (let i = 0; i < inner; i++) out[into + i] += weight * values[of + i];
      }
  return out;
};

const valueAt = (values: Float64Array, [below, far]: Place): number =>
  far === 0 ? values[below] : (1 - far) * values[below] + far * values[below + 1];

/** How far points of an axis give way to a pull on another of them, where each is held besides: row-major [points, points]. */
const giveOf = ({ points, stiffness, vectors }: Modes, held: number): Float64Array => {
  const out = new Float64Array(points * points);
  for (let mode = 0; mode < points; mode++) {
    const vector = vectors.subarray(mode * points, (mode + 1) * points);
    for (let a = 0; a < points; a++) {
      const pull = vector[a] / (stiffness[mode] + held);
      for (let b = 0; b < points; b++) out[a * points + b] += pull * vector[b];
    }
  }
  return out;
};

/** A mode of several axes at once: how stiff it is, and how much of it is at each site. */
interface JointMode {
  readonly stiffness: number;
  readonly atSites: Float64Array;
}

/** Each mode of each of `some` axes with each of the others; `placesOf(axis)` are those of the sites. */
const jointModes = (
  some: readonly (readonly [axis: Modes, places: readonly Place[]])[],
  sites: number,
): readonly JointMode[] => {
  let joint: readonly JointMode[] = [{ stiffness: RIDGE, atSites: new Float64Array(sites).fill(1) }];
  for (const [{ points, stiffness, vectors }, places] of some)
    joint = joint.flatMap((mode) =>
      Array.from({ length: points }, (_, own) => {
        const vector = vectors.subarray(own * points, (own + 1) * points);
        return {
          stiffness: mode.stiffness + stiffness[own],
          atSites: mode.atSites.map((size, site) => size * valueAt(vector, places[site])),
        };
      }),
    );
  return joint;
};

export interface Membrane {
  /** How far all points move where some are pulled; last axis fastest. */
  moved(pulls: Float64Array): Float64Array;
  /** How far each site moves where another is pulled, row-major [sites, sites]; `places` are those of all sites on each axis. */
  movedTogether(places: readonly (readonly Place[])[]): Float64Array;
}

/** The membrane over a grid of one axis or more. */
export const membraneOn = (axes: readonly Axis[]): Membrane => {
  const modes = axes.map(modesOf);
  const innerOf = (at: number): number =>
    modes.slice(at + 1).reduce((count, { points }) => count * points, 1);
  // Solved at its points, for each mode of the others.
  const longest = modes.reduce((most, { points }, at) => (points > modes[most].points ? at : most), 0);
  return {
    moved: (pulls) => {
      const inModes = modes.reduce<Float64Array>(
        (values, one, at) => turned(values, one, innerOf(at), true),
        pulls,
      );
      const given = inModes.map((pull, index) => {
        const stiffness = modes.reduce(
          (sum, one, at) => sum + one.stiffness[Math.floor(index / innerOf(at)) % one.points],
          RIDGE,
        );
        return pull / stiffness;
      });
      return modes.reduce<Float64Array>((values, one, at) => turned(values, one, innerOf(at), false), given);
    },
    movedTogether: (places) => {
      const [axis, own] = [modes[longest], places[longest]];
      const { points } = axis;
      const sites = own.length;
      const below = Int32Array.from(own, ([point]) => point);
      const above = below.map((point) => Math.min(point + 1, points - 1));
      const far = Float64Array.from(own, ([, share]) => share);
      const out = new Float64Array(sites * sites);
      const others = modes.flatMap((one, at) => (at === longest ? [] : [[one, places[at]] as const]));
      const row = new Float64Array(points);
      for (const { stiffness, atSites } of jointModes(others, sites)) {
        const give = giveOf(axis, stiffness);
        for (let a = 0; a < sites; a++) {
          // What a pull at this site moves on the axis.
          const [low, high] = [below[a] * points, above[a] * points];
          for (let i = 0; i < points; i++)
            row[i] = atSites[a] * ((1 - far[a]) * give[low + i] + far[a] * give[high + i]);
          for (let b = 0; b <= a; b++)
            out[a * sites + b] += atSites[b] * ((1 - far[b]) * row[below[b]] + far[b] * row[above[b]]);
        }
      }
      for (let a = 0; a < sites; a++) for (let b = 0; b < a; b++) out[b * sites + a] = out[a * sites + b];
      return out;
    },
  };
};
