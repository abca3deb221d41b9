/**
 * Queries of a layer guessed from those of an earlier one. A real rehearsal multiplies the earlier layer's normalised input
 * by the later layer's query weights (InfiniGen, arXiv 2406.19707, section 4.3). A trace has neither; but all heads'
 * queries of the earlier layer are a linear image of that input, so the guess is a linear map of them, and ridge
 * regression over the prompt's last queries stands in for the weights.
 */
import { type Rope, rotate, unrotate } from '../trace/rope.ts';

/** Rows of [count, width], one a token. */
export interface TokenRows {
  readonly rows: Float64Array;
  readonly width: number;
}

/** What is added to the diagonal, as a share of its mean: 64 rows never fix a map of a thousand channels. */
const RIDGE = 0.1;

const meansOf = ({ rows, width }: TokenRows): Float64Array => {
  const means = new Float64Array(width);
  const count = rows.length / width;
  for (let i = 0; i < rows.length; i++) means[i % width] += rows[i] / count;
  return means;
};

const centred = ({ rows, width }: TokenRows, means: Float64Array): Float64Array =>
  rows.map((x, i) => x - means[i % width]);

/** Solves gram · x = right for symmetric positive definite gram [n, n] and right [n, m], by Cholesky; both are overwritten. */
export const solvePositive = (gram: Float64Array, right: Float64Array, n: number): Float64Array => {
  const m = right.length / n;
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = gram[i * n + j];
      for (let k = 0; k < j; k++) sum -= gram[i * n + k] * gram[j * n + k];
      gram[i * n + j] = i === j ? Math.sqrt(sum) : sum / gram[j * n + j];
    }
  }
  for (let c = 0; c < m; c++) {
    for (let i = 0; i < n; i++) {
      let sum = right[i * m + c];
      for (let k = 0; k < i; k++) sum -= gram[i * n + k] * right[k * m + c];
      right[i * m + c] = sum / gram[i * n + i];
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = right[i * m + c];
      for (let k = i + 1; k < n; k++) sum -= gram[k * n + i] * right[k * m + c];
      right[i * m + c] = sum / gram[i * n + i];
    }
  }
  return right;
};

/** The map that takes each row of `from` to the row of `to` of the same token as nearly as the ridge lets it. */
export const fitLayerMap = (from: TokenRows, to: TokenRows): ((row: Float64Array) => Float64Array) => {
  const count = from.rows.length / from.width;
  const fromMeans = meansOf(from);
  const toMeans = meansOf(to);
  const inputs = centred(from, fromMeans);
  const productWith = (row: Float64Array, at: number): number => {
    let sum = 0;
    for (let c = 0; c < from.width; c++) sum += inputs[at * from.width + c] * row[c];
    return sum;
  };
  const gram = new Float64Array(count * count);
  let trace = 0;
  for (let i = 0; i < count; i++) {
    const row = inputs.subarray(i * from.width, (i + 1) * from.width);
    for (let j = 0; j < count; j++) gram[i * count + j] = productWith(row, j);
    trace += gram[i * count + i];
  }
  // Rows that are all alike say nothing beyond their mean.
  for (let i = 0; i < count; i++) gram[i * count + i] += trace > 0 ? (RIDGE * trace) / count : 1;
  const weights = solvePositive(gram, centred(to, toMeans), count);
  return (row) => {
    const out = toMeans.slice();
    const moved = row.map((x, c) => x - fromMeans[c]);
    for (let i = 0; i < count; i++) {
      const product = productWith(moved, i);
      for (let c = 0; c < to.width; c++) out[c] += product * weights[i * to.width + c];
    }
    return out;
  };
};

/** Turns each head's query of one token, row-major [heads, headDim], in place; as they are where no rotation is known. */
const turned = (
  queries: Float32Array,
  token: number,
  headDim: number,
  rope: Rope | null,
  turn: typeof rotate,
): Float32Array => {
  if (rope !== null)
    for (let at = 0; at < queries.length; at += headDim)
      turn(queries.subarray(at, at + headDim), 1, token, rope);
  return queries;
};

/** Queries of one token, row-major [heads, headDim], as they were before rotation; as they are where it is not known. */
export const beforeRope = (
  queries: Float32Array,
  token: number,
  headDim: number,
  rope: Rope | null,
): Float32Array => turned(queries.slice(), token, headDim, rope, unrotate);

/** The inverse of `beforeRope`. */
export const afterRope = (
  queries: Float64Array,
  token: number,
  headDim: number,
  rope: Rope | null,
): Float32Array => turned(Float32Array.from(queries), token, headDim, rope, rotate);
