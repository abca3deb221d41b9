/** Folds records of the same shape, number by number: means and quantiles of everything that heads report. */
import { mean, quantiles } from '../../../sim/engine/stats.ts';

type Fold = (values: readonly number[]) => number;

const foldAny = (values: readonly unknown[], fold: Fold): unknown => {
  const known = values.filter((value) => value !== null && value !== undefined);
  const [first] = known;
  if (first === undefined) return null;
  if (typeof first === 'number') return fold(known as number[]);
  if (Array.isArray(first))
    return first.map((_, at) =>
      foldAny(
        (known as unknown[][]).map((list) => list[at]),
        fold,
      ),
    );
  const records = known as Record<string, unknown>[];
  return Object.fromEntries(
    Object.keys(first as object).map((key) => [
      key,
      foldAny(
        records.map((record) => record[key]),
        fold,
      ),
    ]),
  );
};

/** One record whose every number is the fold of that number in `records`; nulls don't count, none left gives null. */
const foldRecords = <T extends object>(records: readonly T[], fold: Fold): T => foldAny(records, fold) as T;

export const meanRecord = <T extends object>(records: readonly T[]): T =>
  foldRecords(records, (values) => mean(values));

export const quantileRecord = <T extends object>(records: readonly T[], p: number): T =>
  foldRecords(records, (values) => quantiles(values, [p])[0]);

const SIGNIFICANT_DIGITS = 6;

/** The same tree with six significant digits: what is measured is not known better, and a document stays small. */
export const roundRecord = <T>(tree: T): T => {
  const round = (value: unknown): unknown => {
    if (typeof value === 'number') return Number(value.toPrecision(SIGNIFICANT_DIGITS));
    if (Array.isArray(value)) return value.map(round);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, round(part)]));
  };
  return round(tree) as T;
};
