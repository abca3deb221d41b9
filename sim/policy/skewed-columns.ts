/**
 * The few columns of queries and keys that say most of their products, after a rotation that leaves the products as
 * they are: InfiniGen turns both by the right singular vectors of the queries and keeps the columns in which queries
 * are largest (arXiv 2406.19707, section 4.2; snu-comparch/InfiniGen skewing_controller.py, partial_weight_generation).
 */
import { symmetricEigen } from './eigen.ts';
import type { WindowQueries, World } from './policy.ts';
import { gramOf } from './principal.ts';

/** Rows are the kept columns' directions: row-major [columns, headDim], orthonormal. */
export interface Columns {
  readonly directions: Float64Array;
  readonly columns: number;
}

const identity = (n: number): Float64Array => {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  return out;
};

/**
 * The `columns` columns in which `sample` rows [count, headDim] (queries of the prompt, of the whole group) are largest
 * by sum of absolute values; after skewing by their singular vectors, or as they are.
 */
export const largestColumns = (
  sample: Float32Array,
  headDim: number,
  columns: number,
  skew: boolean,
): Columns => {
  const rowCount = sample.length / headDim;
  const axes = skew
    ? symmetricEigen(gramOf({ rows: sample, rowCount, channels: headDim }), headDim).vectors
    : identity(headDim);
  const sizes = new Float64Array(headDim);
  for (let axis = 0; axis < headDim; axis++) {
    for (let row = 0; row < rowCount; row++) {
      let along = 0;
      for (let c = 0; c < headDim; c++) along += sample[row * headDim + c] * axes[axis * headDim + c];
      sizes[axis] += Math.abs(along);
    }
  }
  const order = Array.from(sizes.keys()).sort((a, b) => sizes[b] - sizes[a] || a - b);
  const directions = new Float64Array(columns * headDim);
  for (let i = 0; i < columns; i++) {
    const axis = order[i];
    directions.set(axes.subarray(axis * headDim, (axis + 1) * headDim), i * headDim);
  }
  return { directions, columns };
};

/**
 * Rows whose product with any key is that of the kept columns alone: each query's part in their span. Row-major
 * [queries.length / headDim, headDim].
 */
export const withinColumns = (
  queries: Float32Array,
  headDim: number,
  { directions, columns }: Columns,
): Float32Array => {
  const out = new Float32Array(queries.length);
  for (let row = 0; row < queries.length; row += headDim) {
    for (let i = 0; i < columns * headDim; i += headDim) {
      let along = 0;
      for (let c = 0; c < headDim; c++) along += queries[row + c] * directions[i + c];
      for (let c = 0; c < headDim; c++) out[row + c] += along * directions[i + c];
    }
  }
  return out;
};

/** What a result says of the columns' origin; nothing where it is the published one. */
export const columnInputs = (skew: boolean, { fields }: World): string => {
  const seen = fields.has('qprompt') ? "the prompt's last queries" : "the prompt's keys (no prompt queries)";
  if (skew) return `columns skewed by ${seen} instead of by another text's, offline`;
  return fields.has('qprompt') ? '' : `columns by ${seen}`;
};

/** What columns are found from: the prompt's queries, or its keys where no queries were recorded. */
export const columnSample = (
  recorded: WindowQueries | null,
  keys: Float32Array,
  headDim: number,
  length: number,
): Float32Array => recorded?.q ?? keys.subarray(0, length * headDim);
