/**
 * Exact softmax attention of one KV head's query group over all its keys: the truth that every policy of a run is
 * measured against. Computed once per (layer, head, step) and shared by all policies.
 */
import { expInto } from '../engine/math.ts';

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
  /** Room for positions. */
  readonly significant: Int32Array;
}

export const createExactAttention = (
  groupSize: number,
  stride: number,
  valueDim: number,
): ExactAttention => ({
  length: 0,
  groupSize,
  probabilities: new Float32Array(groupSize * stride),
  stride,
  maxLogit: new Float64Array(groupSize),
  normaliser: new Float64Array(groupSize),
  output: new Float64Array(groupSize * valueDim),
  valueDim,
  significant: new Int32Array(stride),
});

/** Logits of four queries at once: one key load serves four products. q rows at q0.., out rows at o0... */
const fourLogits = (
  q: Float64Array,
  q0: number,
  keys: Float32Array,
  d: number,
  n: number,
  out: Float32Array,
  o0: number,
  stride: number,
  scale: number,
): void => {
  const q1 = q0 + d;
  const q2 = q1 + d;
  const q3 = q2 + d;
  for (let i = 0, row = 0; i < n; i++, row += d) {
    let a = 0;
    let b = 0;
    let e = 0;
    let f = 0;
    for (let c = 0; c < d; c++) {
      const k = keys[row + c];
      a += k * q[q0 + c];
      b += k * q[q1 + c];
      e += k * q[q2 + c];
      f += k * q[q3 + c];
    }
    out[o0 + i] = a * scale;
    out[o0 + stride + i] = b * scale;
    out[o0 + 2 * stride + i] = e * scale;
    out[o0 + 3 * stride + i] = f * scale;
  }
};

/** Three queries at once: groups of 3 and 7 are common (SmolLM2, Qwen2.5). */
const threeLogits = (
  q: Float64Array,
  q0: number,
  keys: Float32Array,
  d: number,
  n: number,
  out: Float32Array,
  o0: number,
  stride: number,
  scale: number,
): void => {
  const q1 = q0 + d;
  const q2 = q1 + d;
  for (let i = 0, row = 0; i < n; i++, row += d) {
    let a = 0;
    let b = 0;
    let e = 0;
    for (let c = 0; c < d; c++) {
      const k = keys[row + c];
      a += k * q[q0 + c];
      b += k * q[q1 + c];
      e += k * q[q2 + c];
    }
    out[o0 + i] = a * scale;
    out[o0 + stride + i] = b * scale;
    out[o0 + 2 * stride + i] = e * scale;
  }
};

const oneLogit = (
  q: Float64Array,
  q0: number,
  keys: Float32Array,
  d: number,
  n: number,
  out: Float32Array,
  o0: number,
  scale: number,
): void => {
  for (let i = 0, row = 0; i < n; i++, row += d) {
    let a = 0;
    let b = 0;
    let c = 0;
    for (; c + 1 < d; c += 2) {
      a += keys[row + c] * q[q0 + c];
      b += keys[row + c + 1] * q[q0 + c + 1];
    }
    if (c < d) a += keys[row + c] * q[q0 + c];
    out[o0 + i] = (a + b) * scale;
  }
};

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
  const q = Float64Array.from(queries.subarray(0, groupSize * d));
  const scale = 1 / Math.sqrt(d);
  let g = 0;
  for (; g + 4 <= groupSize; g += 4) fourLogits(q, g * d, keys, d, n, out, g * stride, stride, scale);
  if (groupSize - g === 3) {
    threeLogits(q, g * d, keys, d, n, out, g * stride, stride, scale);
    g += 3;
  }
  for (; g < groupSize; g++) oneLogit(q, g * d, keys, d, n, out, g * stride, scale);
};

/** Softmax in place over the first n entries of a row; returns [largest logit, normaliser]. */
export const softmaxInPlace = (row: Float32Array, n: number): readonly [number, number] => {
  let largest = -Infinity;
  for (let i = 0; i < n; i++) if (row[i] > largest) largest = row[i];
  const sum = expInto(row, row, n, largest);
  const inverse = 1 / sum;
  for (let i = 0; i < n; i++) row[i] *= inverse;
  return [largest, sum];
};

/** Tokens below this share of attention cannot move an output by more than n times it; skipped in sums over V. */
export const NEGLIGIBLE_MASS = 1e-9;

/**
 * out += Σ weight[i] · rows[i] over the `count` listed positions: four rows at a time, so that `out` is loaded and
 * stored once for four. Rows are row-major [tokens, dim].
 */
export const addRows = (
  weight: Float32Array,
  positions: Int32Array,
  count: number,
  rows: Float32Array,
  dim: number,
  out: Float64Array,
): void => {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const r0 = positions[i] * dim;
    const r1 = positions[i + 1] * dim;
    const r2 = positions[i + 2] * dim;
    const r3 = positions[i + 3] * dim;
    const w0 = weight[positions[i]];
    const w1 = weight[positions[i + 1]];
    const w2 = weight[positions[i + 2]];
    const w3 = weight[positions[i + 3]];
    for (let c = 0; c < dim; c++) {
      out[c] += w0 * rows[r0 + c] + w1 * rows[r1 + c] + w2 * rows[r2 + c] + w3 * rows[r3 + c];
    }
  }
  for (; i < count; i++) {
    const row = positions[i] * dim;
    const w = weight[positions[i]];
    for (let c = 0; c < dim; c++) out[c] += w * rows[row + c];
  }
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
  const { groupSize, stride, probabilities, output, valueDim, significant } = exact;
  exact.length = length;
  logitsInto(queries, groupSize, keys, headDim, length, probabilities, stride);
  for (let g = 0; g < groupSize; g++) {
    const row = probabilities.subarray(g * stride, g * stride + length);
    const [largest, sum] = softmaxInPlace(row, length);
    exact.maxLogit[g] = largest;
    exact.normaliser[g] = sum;
    if (values === null) continue;
    let kept = 0;
    for (let i = 0; i < length; i++) if (row[i] >= NEGLIGIBLE_MASS) significant[kept++] = i;
    addRows(
      row,
      significant,
      kept,
      values,
      valueDim,
      output.subarray(g * valueDim, (g + 1) * valueDim).fill(0),
    );
  }
};
