/**
 * Small linear programs: minimise a cost that cannot fall below 0 over variables that are not negative. Two-phase simplex on
 * a dense table; Bland's rule (Mathematics of Operations Research 2(2), 1977) keeps it from going round in circles.
 */
import { SimError } from '../error.ts';

/** Σ terms[name] · name, compared with `limit`. */
export interface Constraint {
  readonly terms: Readonly<Record<string, number>>;
  readonly sense: '<=' | '=' | '>=';
  readonly limit: number;
}

export interface Optimum {
  readonly cost: number;
  readonly values: Readonly<Record<string, number>>;
}

const EPSILON = 1e-9;
/** Scaled violations that rounding may leave. */
const FEASIBLE = 1e-7;
const MOST_PIVOTS = 10_000;

interface Table {
  /** One row a constraint, its right side last. */
  readonly rows: Float64Array[];
  /** Column that stands for each row. */
  readonly basis: number[];
  /** Columns of the program's variables and slacks; artificial ones follow. */
  readonly realColumns: number;
  readonly columns: number;
  /** A variable is its column's value times this. */
  readonly units: Float64Array;
}

/** The power of two next below a positive number: scaling by it loses no digit. */
const powerBelow = (x: number): number => {
  let power = 1;
  while (power > x) power /= 2;
  while (2 * power <= x) power *= 2;
  return power;
};

const SCALING_ROUNDS = 6;

/**
 * Powers of two that bring the coefficients of each row and each column near 1, by the geometric mean of the largest and
 * the smallest: bytes, times and shares may stand in one program.
 */
const scalesOf = (matrix: readonly Float64Array[], columns: number) => {
  const byRow = new Float64Array(matrix.length).fill(1);
  const byColumn = new Float64Array(columns).fill(1);
  const middle = (entries: readonly number[]): number => {
    const sizes = entries.map(Math.abs).filter((x) => x > 0);
    return sizes.length === 0 ? 1 : powerBelow(Math.sqrt(Math.max(...sizes)) * Math.sqrt(Math.min(...sizes)));
  };
  for (let round = 0; round < SCALING_ROUNDS; round++) {
    matrix.forEach((row, r) => {
      byRow[r] = 1 / middle([...row].map((x, c) => x * byColumn[c]));
    });
    for (let c = 0; c < columns; c++) byColumn[c] = 1 / middle(matrix.map((row, r) => row[c] * byRow[r]));
  }
  return { byRow, byColumn };
};

/** Scaled rows, right sides not negative, one basic column each. */
const tableOf = (names: readonly string[], constraints: readonly Constraint[]): Table => {
  const slacks = constraints.filter(({ sense }) => sense !== '=').length;
  const realColumns = names.length + slacks;
  const columns = realColumns + constraints.length;
  const matrix = constraints.map(({ terms }) => Float64Array.from(names, (name) => terms[name] ?? 0));
  const { byRow, byColumn } = scalesOf(matrix, names.length);
  const basis: number[] = [];
  let slack = names.length;
  const rows = constraints.map(({ sense, limit }, at) => {
    const row = new Float64Array(columns + 1);
    const sign = limit < 0 ? -1 : 1;
    for (let c = 0; c < names.length; c++) row[c] = sign * byRow[at] * byColumn[c] * matrix[at][c];
    row[columns] = sign * byRow[at] * limit;
    row[realColumns + at] = 1;
    basis.push(realColumns + at);
    if (sense !== '=') row[slack++] = sense === '<=' ? sign : -sign;
    return row;
  });
  return { rows, basis, realColumns, columns, units: byColumn };
};

const pivot = ({ rows, basis }: Table, costs: Float64Array, row: number, column: number): void => {
  const source = rows[row];
  const divisor = source[column];
  for (let c = 0; c < source.length; c++) source[c] /= divisor;
  for (const other of [...rows, costs]) {
    const factor = other === source ? 0 : other[column];
    if (factor !== 0) for (let c = 0; c < source.length; c++) other[c] -= factor * source[c];
  }
  basis[row] = column;
};

/** Lowers the cost until no column among the first `usable` does. */
const descend = (table: Table, costs: Float64Array, usable: number): void => {
  const { rows, basis, columns } = table;
  for (let pivots = 0; ; pivots++) {
    if (pivots > MOST_PIVOTS)
      throw new SimError(
        'invariant-broken',
        `linear program of ${rows.length} rows: no end after ${pivots} pivots`,
      );
    let column = 0;
    while (column < usable && costs[column] >= -EPSILON) column++;
    if (column === usable) return;
    let best = -1;
    let least = Infinity;
    rows.forEach((row, at) => {
      if (row[column] <= EPSILON) return;
      const ratio = row[columns] / row[column];
      if (ratio < least - EPSILON || (ratio <= least + EPSILON && basis[at] < basis[best])) {
        least = Math.min(least, ratio);
        best = at;
      }
    });
    if (best < 0) throw new SimError('invariant-broken', 'linear program: the cost has no lower bound');
    pivot(table, costs, best, column);
  }
};

/** The cost of each column, less what the basis pays for it. */
const reduced = ({ rows, basis, columns }: Table, priceOf: (column: number) => number): Float64Array => {
  const costs = new Float64Array(columns + 1).map((_, column) => (column < columns ? priceOf(column) : 0));
  rows.forEach((row, at) => {
    const price = priceOf(basis[at]);
    if (price !== 0) for (let c = 0; c <= columns; c++) costs[c] -= price * row[c];
  });
  return costs;
};

/** The cheapest values that meet all constraints; null where none do. Costs must not be negative. */
export const minimise = (
  cost: Readonly<Record<string, number>>,
  constraints: readonly Constraint[],
): Optimum | null => {
  const names = [
    ...new Set([...Object.keys(cost), ...constraints.flatMap(({ terms }) => Object.keys(terms))]),
  ];
  const table = tableOf(names, constraints);
  const { rows, basis, realColumns, columns, units } = table;
  const violation = reduced(table, (column) => (column >= realColumns ? 1 : 0));
  descend(table, violation, realColumns);
  if (-violation[columns] > FEASIBLE) return null;
  // An artificial column that is left stands at 0: any real one may take its place.
  basis.forEach((column, row) => {
    if (column < realColumns) return;
    const other = rows[row].findIndex((x, c) => c < realColumns && Math.abs(x) > EPSILON);
    if (other >= 0) pivot(table, violation, row, other);
  });
  const prices = names.map((name, column) => (cost[name] ?? 0) * units[column]);
  const dearest = prices.reduce((a, b) => Math.max(a, b), 0) || 1;
  const costs = reduced(table, (column) => (prices[column] ?? 0) / dearest);
  descend(table, costs, realColumns);
  const values = Object.fromEntries(names.map((name) => [name, 0]));
  basis.forEach((column, row) => {
    if (column < names.length) values[names[column]] = rows[row][columns] * units[column];
  });
  return { cost: names.reduce((sum, name) => sum + (cost[name] ?? 0) * values[name], 0), values };
};
