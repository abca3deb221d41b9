/** Miss-ratio curves for the terminal: hit ratio over capacity on a logarithmic axis, one letter a rule. */
import { log } from '../sim/engine/math.ts';
import type { MrcCurve, MrcPoint } from '../sim/policy/eviction/mrc.ts';
import { formatRatio } from './format.ts';

const ROWS = 12;
const MAX_COLUMNS = 64;
const LABEL_COLUMNS = 8;

/** A letter for each rule: the first of its name that no rule before it took. */
export const marksOf = (names: readonly string[]): readonly string[] => {
  const taken = new Set<string>();
  return names.map((name) => {
    const letter =
      [...name.toUpperCase(), ...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'].find((char) => !taken.has(char)) ?? '*';
    taken.add(letter);
    return letter;
  });
};

/** Capacities lie far apart: their axis is logarithmic, with 0 left of 1. */
const position = (capacityBlocks: number): number => log(Math.max(0.5, capacityBlocks));

/** Hit ratio at a position between the points of a curve. */
const ratioAt = (points: readonly MrcPoint[], at: number): number => {
  const after = points.findIndex(({ capacityBlocks }) => position(capacityBlocks) >= at);
  if (after < 0) return points[points.length - 1].hitRatio;
  if (after === 0) return points[0].hitRatio;
  const [left, right] = [points[after - 1], points[after]];
  const share =
    (at - position(left.capacityBlocks)) / (position(right.capacityBlocks) - position(left.capacityBlocks));
  return left.hitRatio + share * (right.hitRatio - left.hitRatio);
};

/** Lines of the chart; '' when there are fewer than two capacities or nothing ever hits. */
export const renderCurves = (curves: readonly MrcCurve[], columns: number): string => {
  const capacities = curves[0]?.points.map((point) => point.capacityBlocks) ?? [];
  const top = Math.max(0, ...curves.flatMap(({ points }) => points.map((point) => point.hitRatio)));
  if (capacities.length < 2 || top === 0) return '';
  const width = Math.max(16, Math.min(MAX_COLUMNS, columns - LABEL_COLUMNS - 2));
  const from = position(capacities[0]);
  const step = (position(capacities[capacities.length - 1]) - from) / (width - 1);
  const cells = Array.from({ length: ROWS }, () => Array.from({ length: width }, () => ' '));
  const marks = marksOf(curves.map((curve) => curve.eviction));
  // Later curves first, so that where curves meet the first rule's letter stays.
  [...curves.entries()].reverse().forEach(([at, { points }]) => {
    for (let x = 0; x < width; x++) {
      const row = Math.round((ratioAt(points, from + x * step) / top) * (ROWS - 1));
      cells[ROWS - 1 - row][x] = marks[at];
    }
  });
  const label = (row: number): string =>
    row === 0 ? formatRatio(top) : row === ROWS - 1 ? formatRatio(0) : '';
  const lines = cells.map((row, at) => `${label(at).padStart(LABEL_COLUMNS)} ┤${row.join('').trimEnd()}`);
  const right = String(capacities[capacities.length - 1]);
  const left = String(capacities[0]);
  const axis = `${left}${' '.repeat(Math.max(1, width - left.length - right.length))}${right}`;
  const legend = curves.map((curve, at) => `${marks[at]} ${curve.eviction}`).join('   ');
  const indent = ' '.repeat(LABEL_COLUMNS + 2);
  return [
    ...lines,
    `${' '.repeat(LABEL_COLUMNS)} └${'─'.repeat(width)}`,
    `${indent}${axis} blocks`,
    `${indent}${legend}`,
  ].join('\n');
};
