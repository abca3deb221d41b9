/**
 * Fits a stack's constants, each on its own calibration cells and nothing else. A constant moves its cells one way, so
 * the value at which their mean error (in logarithms of ratios) is zero is unique; constants that touch each other's
 * cells are fitted in turn until none moves. Deterministic: no random starts, no tuned weights.
 */
import { log } from '../../sim/engine/math.ts';
import { SimError } from '../../sim/error.ts';
import { machineOf } from './machine.ts';
import { loadPaper, loadPaperStack } from './papers.ts';
import { Replays, Runs, simulateCell } from './reproduce.ts';
import type { Cell, Paper, PaperStack } from './schema.ts';

const ROUNDS = 12;
const TOLERANCE = 1e-4;
const WIDEST_FACTOR = 1024;
const HALVINGS = 40;

const calibrationCells = (paper: Paper, names: readonly string[]): readonly Cell[] =>
  names.map((name) => {
    const cell = paper.cells.find(({ table, cell }) => `${table}: ${cell}` === name);
    if (cell === undefined) throw new SimError('invalid-input', `${paper.name}: no cell "${name}"`);
    if (cell.role !== 'calibration')
      throw new SimError('invalid-input', `${paper.name}: "${name}" is a test cell; a fit may not see it`);
    return cell;
  });

/** Zero of a function that goes one way, between two points whose values differ in sign: regula falsi, halving when stuck. */
const zeroBetween = (f: (x: number) => number, from: number, to: number): number => {
  let [a, b] = [from, to];
  let [fa, fb] = [f(a), f(b)];
  for (let i = 0; i < HALVINGS && Math.abs(b - a) > TOLERANCE * Math.abs(b); i++) {
    const middle = i % 3 === 2 ? (a + b) / 2 : b - (fb * (b - a)) / (fb - fa);
    const value = f(middle);
    if (Math.abs(value) < TOLERANCE) return middle;
    if (value < 0 === fa < 0) [a, fa] = [middle, value];
    else [b, fb] = [middle, value];
  }
  return Math.abs(fa) < Math.abs(fb) ? a : b;
};

/** The value near `start` at which `error` is zero; where no zero is within a wide bracket, its better end. */
const solve = (error: (value: number) => number, start: number): number => {
  let best = { value: start, error: error(start) };
  const first = best.error;
  if (Math.abs(first) < TOLERANCE) return start;
  for (let factor = 2; factor <= WIDEST_FACTOR; factor *= 2) {
    for (const value of [start * factor, start / factor]) {
      const found = error(value);
      if (found < 0 !== first < 0) return zeroBetween(error, start, value);
      if (Math.abs(found) < Math.abs(best.error)) best = { value, error: found };
    }
  }
  return best.value;
};

/** The fitted values of a stack, in the order of its `fitted`. */
export const fitStack = (stack: PaperStack): readonly number[] => {
  const values = stack.fitted.map(({ value }) => value);
  const replays = new Replays();
  const errorWith = (at: number, value: number): number => {
    const { paper: name, cells: names } = stack.fitted[at];
    const tried = values.with(at, value);
    const runs = new Runs(replays, (wanted) =>
      wanted === stack.name ? machineOf(stack, tried) : machineOf(loadPaperStack(wanted)),
    );
    const paper = loadPaper(name);
    const cells = calibrationCells(paper, names);
    const errors = cells.map((cell) => log(simulateCell(paper, cell, runs) / cell.published));
    return errors.reduce((sum, error) => sum + error, 0) / errors.length;
  };
  for (let round = 0; round < ROUNDS; round++) {
    let moved = 0;
    for (let at = 0; at < values.length; at++) {
      const before = values[at];
      values[at] = solve((value) => errorWith(at, value), before);
      moved = Math.max(moved, Math.abs(values[at] / before - 1));
    }
    if (moved < TOLERANCE) break;
  }
  return values.map((value) => Number(value.toPrecision(5)));
};
