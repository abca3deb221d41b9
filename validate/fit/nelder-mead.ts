/**
 * Nelder-Mead simplex search (Computer Journal 7, 1965), restarted from its own best point until that moves no more.
 * Deterministic; for smooth or piecewise-smooth objectives of a dozen parameters.
 */

const REFLECT = 1;
const EXPAND = 2;
const CONTRACT = 0.5;
const SHRINK = 0.5;
const RESTARTS = 10;

interface Vertex {
  readonly at: readonly number[];
  readonly value: number;
}

const between = (a: readonly number[], b: readonly number[], share: number): readonly number[] =>
  a.map((x, i) => x + share * (b[i] - x));

const simplexOf = (f: (at: readonly number[]) => number, start: readonly number[], step: number): Vertex[] =>
  [start, ...start.map((x, i) => start.with(i, x + step))].map((at) => ({ at, value: f(at) }));

const search = (
  f: (at: readonly number[]) => number,
  start: readonly number[],
  step: number,
  tolerance: number,
): Vertex => {
  const simplex = simplexOf(f, start, step);
  const vertex = (at: readonly number[]): Vertex => ({ at, value: f(at) });
  for (let round = 0; round < 200 * start.length; round++) {
    simplex.sort((a, b) => a.value - b.value);
    const [best] = simplex;
    const worst = simplex[simplex.length - 1];
    if (worst.value - best.value <= tolerance * Math.abs(best.value)) break;
    const others = simplex.slice(0, -1);
    const centre = start.map((_, i) => others.reduce((sum, { at }) => sum + at[i], 0) / others.length);
    const reflected = vertex(between(centre, worst.at, -REFLECT));
    let next = reflected;
    if (reflected.value < best.value) {
      const expanded = vertex(between(centre, worst.at, -EXPAND));
      if (expanded.value < reflected.value) next = expanded;
    } else if (reflected.value >= others[others.length - 1].value) {
      const toward = reflected.value < worst.value ? reflected.at : worst.at;
      next = vertex(between(centre, toward, CONTRACT));
      if (next.value >= Math.min(reflected.value, worst.value)) {
        for (let i = 1; i < simplex.length; i++) simplex[i] = vertex(between(best.at, simplex[i].at, SHRINK));
        continue;
      }
    }
    simplex[simplex.length - 1] = next;
  }
  return simplex.reduce((a, b) => (b.value < a.value ? b : a));
};

/** Point of the least value found near `start`. `step`: size of the first simplex. */
export const minimise = (
  f: (at: readonly number[]) => number,
  start: readonly number[],
  step = 0.5,
  tolerance = 1e-6,
): readonly number[] => {
  let best: Vertex = { at: start, value: f(start) };
  // A simplex can collapse on a ridge: start again from its point, to the other side, until neither side gains.
  for (let restart = 0, idle = 0; restart < RESTARTS && idle < 2; restart++) {
    const found = search(f, best.at, (restart % 2 === 0 ? step : -step) / (1 + (restart >> 1)), tolerance);
    idle = best.value - found.value <= tolerance * Math.abs(best.value) ? idle + 1 : 0;
    if (found.value < best.value) best = found;
  }
  return best.at;
};
