/** Pareto fronts: what is left when everything is gone that something else beats. Less is better in every coordinate. */

const beats = (a: readonly number[], b: readonly number[]): boolean =>
  a.every((value, i) => value <= b[i]) && a.some((value, i) => value < b[i]);

/** Indices of the points that no other point beats, in their order; equal points stand together. */
export const paretoFront = (points: readonly (readonly number[])[]): readonly number[] =>
  points.flatMap((point, i) => (points.some((other) => beats(other, point)) ? [] : [i]));
