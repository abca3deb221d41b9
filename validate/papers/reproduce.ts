/**
 * Published against simulated, cell by cell. A set-up is simulated once however many cells read it; a cell whose
 * policy is not in the catalog, or whose run is refused, says so and has no number.
 */
import { quantiles } from '../../sim/engine/stats.ts';
import { SimError } from '../../sim/error.ts';
import type { MachineDescription } from '../overlay.ts';
import { EvenRows } from './even-trace.ts';
import { machineOf } from './machine.ts';
import { isRecall, type Measured, type Metric } from './metrics.ts';
import { resolveSetup, stackOf } from './papers.ts';
import { measureRecall, type Recall } from './retrieval.ts';
import type { Cell, Paper, Setup } from './schema.ts';
import { replayKey, setupKey, simulate, type TimingSetup } from './simulate.ts';
import { inUnit } from './units.ts';

export interface CellResult {
  readonly paper: string;
  readonly table: string;
  readonly cell: string;
  readonly unit: string;
  readonly published: number;
  /** Null when it could not be simulated; `note` says why. */
  readonly simulated: number | null;
  /** simulated / published − 1. */
  readonly errorRatio: number | null;
  readonly role: Cell['role'];
  readonly source: string;
  readonly note?: string;
}

export interface SensitivityResult {
  readonly paper: string;
  readonly cell: string;
  readonly field: string;
  readonly value: unknown;
  readonly simulated: number;
  readonly errorRatio: number;
  readonly why: string;
}

export interface RoleSummary {
  readonly cells: number;
  readonly simulated: number;
  /** Of the absolute error ratios; null when nothing was simulated. */
  readonly medianError: number | null;
  readonly worstError: number | null;
  readonly worstCell: string | null;
}

type Timed = (machine: MachineDescription, timing: TimingSetup) => Measured;

/** The error with which `run` was refused, as a value. */
const refusal = <T>(run: () => T): T | SimError => {
  try {
    return run();
  } catch (error) {
    if (error instanceof SimError) return error;
    throw error;
  }
};

/**
 * Replays of set-ups, each made once; they outlive changes of the machine, as a fit makes them. A replay holds its trace,
 * up to gigabytes, so `most` can be kept: one that was forgotten is made again when it is asked for.
 */
export class Replays {
  private readonly rows = new EvenRows();
  private readonly done = new Map<string, Timed | SimError>();
  private readonly recalls = new Map<string, Recall>();
  private readonly most: number;

  constructor(most = Number.POSITIVE_INFINITY) {
    this.most = most;
  }

  /** Throws the SimError with which the run was refused. */
  of(setup: Setup): Timed {
    const key = replayKey(setup);
    const known = this.done.get(key) ?? refusal(() => simulate(setup, this.rows));
    // A map keeps the order of insertion: the first is what was asked for longest ago.
    this.done.delete(key);
    this.done.set(key, known);
    if (this.done.size > this.most) this.done.delete(this.done.keys().next().value as string);
    if (known instanceof SimError) throw known;
    return known;
  }

  /** Throws SimError or TraceError where set-up and trace do not fit. */
  recall(setup: Setup): Recall {
    const key = replayKey(setup);
    const known = this.recalls.get(key) ?? measureRecall(setup);
    this.recalls.set(key, known);
    return known;
  }
}

/** Runs set-ups, each once, on the machines that `machineFor` gives for the stacks that they name. */
export class Runs {
  private readonly replays: Replays;
  private readonly machineFor: (stack: string) => MachineDescription;
  private readonly done = new Map<string, Measured>();

  constructor(replays: Replays, machineFor: (stack: string) => MachineDescription) {
    this.replays = replays;
    this.machineFor = machineFor;
  }

  /** Throws the SimError with which the run was refused. */
  value(setup: Setup, metric: Metric): number {
    return isRecall(metric) ? this.replays.recall(setup)[metric] : this.timed(setup)[metric];
  }

  private timed(setup: Setup): Measured {
    const key = setupKey(setup);
    const known = this.done.get(key) ?? this.replays.of(setup)(this.machineFor(setup.stack), setup);
    this.done.set(key, known);
    return known;
  }
}

type Change = (setup: Setup) => Setup;
const unchanged: Change = (setup) => setup;

/** A cell's number in its unit, with changes applied to its own set-up and to the one that it is compared with. */
export const simulateCell = (
  paper: Paper,
  cell: Cell,
  runs: Runs,
  change: Change = unchanged,
  changeOther: Change = unchanged,
): number => {
  const value = runs.value(change(resolveSetup(paper, cell.setup)), cell.metric);
  if (cell.against === undefined) return inUnit(value, cell.unit);
  const { setup, as, metric = cell.metric } = cell.against;
  const other = runs.value(changeOther(resolveSetup(paper, setup)), metric);
  switch (as) {
    case 'ratio':
      return inUnit(value / other, cell.unit);
    case 'speedup':
      return inUnit(other / value, cell.unit);
    case 'saved':
      return inUnit(1 - value / other, cell.unit);
    case 'extra':
      return inUnit(value / other - 1, cell.unit);
    case 'difference':
      return inUnit(value - other, cell.unit);
    default: {
      const never: never = as;
      return never;
    }
  }
};

const resultOf = (paper: Paper, cell: Cell, runs: Runs): CellResult => {
  const { table, unit, published, role, source, note } = cell;
  const common = { paper: paper.name, table, cell: cell.cell, unit, published };
  const noted = note === undefined ? {} : { note };
  const simulated = refusal(() => simulateCell(paper, cell, runs));
  return simulated instanceof SimError
    ? { ...common, simulated: null, errorRatio: null, role, source, note: simulated.message.split(';')[0] }
    : { ...common, simulated, errorRatio: simulated / published - 1, role, source, ...noted };
};

/** A copy of `tree` with the field at `path` replaced. */
const withField = (tree: Readonly<Record<string, unknown>>, path: string, value: unknown): object => {
  const [field, ...rest] = path.split('.');
  const inner = tree[field];
  const nested = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
  return { ...tree, [field]: rest.length === 0 ? value : withField(nested, rest.join('.'), value) };
};

const sensitivitiesOf = (paper: Paper, runs: Runs): readonly SensitivityResult[] =>
  paper.sensitivity.flatMap(({ cell: name, field, of, values, why }) => {
    const cell = paper.cells.find(({ table, cell }) => `${table}: ${cell}` === name);
    if (cell === undefined) return [];
    return values.flatMap((value) => {
      const change: Change = (setup) => withField(setup, field, value) as Setup;
      const [own, other] = [of !== 'against' ? change : unchanged, of !== 'setup' ? change : unchanged];
      const simulated = refusal(() => simulateCell(paper, cell, runs, own, other));
      if (simulated instanceof SimError) return [];
      const errorRatio = simulated / cell.published - 1;
      const shown = of === 'against' ? `${field} (baseline)` : field;
      return [{ paper: paper.name, cell: name, field: shown, value, simulated, errorRatio, why }];
    });
  });

export const summarise = (cells: readonly CellResult[], role: Cell['role']): RoleSummary => {
  const ofRole = cells.filter((cell) => cell.role === role);
  const errors = ofRole.flatMap(({ errorRatio }) => (errorRatio === null ? [] : [Math.abs(errorRatio)]));
  if (errors.length === 0) {
    return { cells: ofRole.length, simulated: 0, medianError: null, worstError: null, worstCell: null };
  }
  const worstError = Math.max(...errors);
  const worst = ofRole.find(({ errorRatio }) => errorRatio !== null && Math.abs(errorRatio) === worstError);
  return {
    cells: ofRole.length,
    simulated: errors.length,
    medianError: quantiles(errors, [0.5])[0],
    worstError,
    worstCell: worst ? `${worst.table}: ${worst.cell}` : null,
  };
};

export interface PaperResult {
  readonly paper: Paper;
  readonly cells: readonly CellResult[];
  readonly sensitivity: readonly SensitivityResult[];
  readonly summary: { readonly calibration: RoleSummary; readonly test: RoleSummary };
}

/** Replays kept while a paper's cells are gone through: its tables compare a few policies at a time. */
const REPLAYS_KEPT = 4;

export const reproduce = (paper: Paper, onCell?: () => void): PaperResult => {
  const runs = new Runs(new Replays(REPLAYS_KEPT), (stack) => machineOf(stackOf(paper, stack)));
  const cells = paper.cells.map((cell) => {
    onCell?.();
    return resultOf(paper, cell, runs);
  });
  return {
    paper,
    cells,
    sensitivity: sensitivitiesOf(paper, runs),
    summary: { calibration: summarise(cells, 'calibration'), test: summarise(cells, 'test') },
  };
};
