/**
 * Which sizes a table goes by: those that help to predict sites from others, found by cross-validation on the sites that
 * the table may know. A size that says nothing, or the same as another, only spreads sites over a larger grid.
 */
import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import type { Sizes } from '../../sim/timing/sizes.ts';
import { type AxisChoice, axesOf, leftOutErrors, type Shown } from './grid.ts';

/** What there is to move counts, even where few sites leave room for chance to say that it does not. */
const FIRST: SizeName = 'bytes';
/** A further axis must lower the error by this share. */
const LEAST_GAIN = 0.02;
const MOST_AXES = 5;
/** No larger grids, so that stacks stay small. */
const MOST_POINTS = 10_000;

interface Tried {
  readonly choices: readonly AxisChoice[];
  readonly error: number;
}

/** Mean error of sites predicted from the others, in logarithms of time; infinite where the grid is too large. */
const errorOf = (choices: readonly AxisChoice[], shown: readonly Shown[], all: readonly Sizes[]): number => {
  const axes = axesOf(choices, all);
  if (axes.reduce((points, { at }) => points * at.length, 1) > MOST_POINTS) return Infinity;
  if (axes.length < choices.length) return Infinity;
  const errors = leftOutErrors(axes, shown);
  return errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length;
};

/**
 * Axes among `names`: bytes, and others added one by one, or two where neither helps alone, while the error on sites left
 * out falls; `all` are the sizes of all sites that the grid must hold. Empty where no axis helps and bytes do not vary.
 */
export const chooseAxes = (
  names: readonly SizeName[],
  shown: readonly Shown[],
  all: readonly Sizes[],
): readonly AxisChoice[] => {
  const varying = names.filter((of) => axesOf([{ of, apart: 'fine' }], all).length > 0);
  const fine = (of: SizeName): AxisChoice => ({ of, apart: 'fine' });
  const first = varying.includes(FIRST) ? [fine(FIRST)] : [];
  let best: Tried = { choices: first, error: errorOf(first, shown, all) };
  const improve = (tries: readonly (readonly AxisChoice[])[]): boolean => {
    const before = best.error;
    for (const choices of tries) {
      const error = errorOf(choices, shown, all);
      if (error < (1 - LEAST_GAIN) * before && error < best.error) best = { choices, error };
    }
    return best.error < before;
  };
  for (;;) {
    const { choices } = best;
    const left = varying.filter((of) => choices.every((one) => one.of !== of)).map(fine);
    if (choices.length < MOST_AXES && improve(left.map((one) => [...choices, one]))) continue;
    // Rows say nothing without their length, say.
    const pairs = left.flatMap((one, at) => left.slice(at + 1).map((other) => [...choices, one, other]));
    if (choices.length + 1 < MOST_AXES && improve(pairs)) continue;
    const more = choices.filter(({ of }) => of !== FIRST);
    if (improve(more.map((one) => choices.filter((other) => other !== one)))) continue;
    break;
  }
  const { choices } = best;
  improve(
    choices.map((_, at) =>
      choices.map((one, i): AxisChoice => (i === at ? { ...one, apart: 'coarse' } : one)),
    ),
  );
  return best.choices;
};
