/**
 * Exact softmax attention of one KV head's query group over all its keys: the truth that every policy of a run is
 * measured against. Computed once per (layer, head, step) and shared by all policies; several steps at a time, because
 * one pass over the keys then serves all their queries. float32 products in a fixed order (engine/simd.ts).
 */
import { addWeightedRows, dotRows, exponentiate, largestOf, scaleEntries } from '../engine/simd.ts';

export interface ExactAttention {
  /** Keys attended: positions 0 .. length-1. */
  length: number;
  readonly groupSize: number;
  /** Softmax rows: row-major [groupSize, stride]; only the first `length` of a row are valid. */
  readonly probabilities: Float32Array;
  readonly stride: number;
  /** Largest logit and sum of exp(logit - largest) per query head. */
  readonly maxLogit: Float64Array;
  readonly normaliser: Float64Array;
  /** Outputs Σ p v, row-major [groupSize, valueDim]; meaningful when values were given. */
  readonly output: Float64Array;
  readonly valueDim: number;
}

/** Room for the attention of several steps of one head, side by side in one set of arrays. */
export interface ExactSteps {
  /** The steps' own views of it. */
  readonly steps: readonly ExactAttention[];
  readonly all: Omit<ExactAttention, 'length'>;
}

/** Room for `steps` steps of a group over at most `stride` keys. */
export const createExactSteps = (
  steps: number,
  groupSize: number,
  stride: number,
  valueDim: number,
): ExactSteps => {
  const rows = steps * groupSize;
  const all = {
    groupSize,
    stride,
    valueDim,
    probabilities: new Float32Array(rows * stride),
    maxLogit: new Float64Array(rows),
    normaliser: new Float64Array(rows),
    output: new Float64Array(rows * valueDim),
  };
  const viewOf = (step: number): ExactAttention => {
    const [from, to] = [step * groupSize, (step + 1) * groupSize];
    return {
      ...all,
      length: 0,
      probabilities: all.probabilities.subarray(from * stride, to * stride),
      maxLogit: all.maxLogit.subarray(from, to),
      normaliser: all.normaliser.subarray(from, to),
      output: all.output.subarray(from * valueDim, to * valueDim),
    };
  };
  return { all, steps: Array.from({ length: steps }, (_, step) => viewOf(step)) };
};

/** Room for one step. */
export const createExactAttention = (groupSize: number, stride: number, valueDim: number): ExactAttention =>
  createExactSteps(1, groupSize, stride, valueDim).steps[0];

/** Scaled logits q·k/√d of `groupSize` queries (row-major [groupSize, d]) over keys 0..n-1 into rows of `out`. */
export const logitsInto = (
  queries: Float32Array,
  groupSize: number,
  keys: Float32Array,
  d: number,
  n: number,
  out: Float32Array,
  stride: number,
): void => {
  dotRows({
    queries,
    queryCount: groupSize,
    rows: keys,
    rowCount: n,
    channels: d,
    out,
    stride,
    scale: 1 / Math.sqrt(d),
  });
};

/** Softmax in place over the first n entries of a row; returns [largest logit, normaliser]. */
export const softmaxInPlace = (row: Float32Array, n: number): readonly [number, number] => {
  const largest = largestOf(row, n);
  const sum = exponentiate(row, n, largest);
  scaleEntries(row, n, 1 / sum);
  return [largest, sum];
};

/** Fills the rows of `all` for queries [rows, headDim], row r over the keys 0 .. lengthOf(r) - 1. */
const attendRows = (
  { probabilities, stride, maxLogit, normaliser, output, valueDim }: Omit<ExactAttention, 'length'>,
  queries: Float32Array,
  rows: number,
  keys: Float32Array,
  values: Float32Array | null,
  headDim: number,
  lengthOf: (row: number) => number,
): void => {
  let longest = 0;
  for (let row = 0; row < rows; row++) longest = Math.max(longest, lengthOf(row));
  logitsInto(queries, rows, keys, headDim, longest, probabilities, stride);
  for (let row = 0; row < rows; row++) {
    const length = lengthOf(row);
    const p = probabilities.subarray(row * stride, row * stride + longest);
    const [largest, sum] = softmaxInPlace(p, length);
    maxLogit[row] = largest;
    normaliser[row] = sum;
    // Keys of later steps: they weigh nothing here.
    p.fill(0, length);
  }
  if (values === null) return;
  addWeightedRows({
    weights: probabilities,
    queryCount: rows,
    stride,
    rows: values,
    rowCount: longest,
    channels: valueDim,
    out: output.fill(0, 0, rows * valueDim),
  });
};

/** Fills `exact` for one step. `values` null leaves the outputs untouched. */
export const attendExactly = (
  exact: ExactAttention,
  queries: Float32Array,
  keys: Float32Array,
  values: Float32Array | null,
  headDim: number,
  length: number,
): void => {
  exact.length = length;
  attendRows(exact, queries, exact.groupSize, keys, values, headDim, () => length);
};

/** Fills the first steps of `exact`, one for each of `queries` [groupSize, headDim]; step i has lengths[i] keys. */
export const attendSteps = (
  exact: ExactSteps,
  queries: readonly Float32Array[],
  keys: Float32Array,
  values: Float32Array | null,
  headDim: number,
  lengths: readonly number[],
): void => {
  const { groupSize } = exact.all;
  const size = groupSize * headDim;
  const together = new Float32Array(queries.length * size);
  for (let i = 0; i < queries.length; i++) {
    together.set(queries[i].subarray(0, size), i * size);
    exact.steps[i].length = lengths[i];
  }
  const lengthOf = (row: number): number => lengths[Math.floor(row / groupSize)];
  attendRows(exact.all, together, queries.length * groupSize, keys, values, headDim, lengthOf);
};
