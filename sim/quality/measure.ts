/**
 * Attention quality of one head group's selection in one step, against exact attention: mass recall, top-k recall
 * at k = |T|, and the relative error of the attention output. For an exact subset KL(ã‖a) = -ln(mass recall), so
 * no separate divergence is reported.
 */
import { exp } from '../engine/math.ts';
import { addRows, type ExactAttention, NEGLIGIBLE_MASS } from './exact-attention.ts';
import type { Selection } from './selection.ts';
import { topKThreshold } from './top-k.ts';

/** Coded KV that overrides the trace's own rows: decoded keys and values of tokens [from, from + tokens). */
export interface DecodedBlock {
  readonly from: number;
  readonly tokens: number;
  readonly keys: Float32Array;
  readonly values: Float32Array | null;
}

export interface HeadQuality {
  massRecall: number;
  topkRecall: number;
  /** -1 when the trace has no values. */
  outputError: number;
  /** Tokens that this query head attends to. */
  tokens: number;
}

export interface MeasureInput {
  readonly exact: ExactAttention;
  readonly selection: Selection;
  /** Row-major [groupSize, headDim]. */
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly values: Float32Array | null;
  /** Blocks whose stored form is coded; disjoint, ascending; empty when everything is raw. */
  readonly decoded: readonly DecodedBlock[];
}

/** Mass and top-k recall of the listed positions. */
const measureMass = (
  row: Float32Array,
  n: number,
  positions: Int32Array,
  count: number,
  out: HeadQuality,
): void => {
  let mass = 0;
  for (let i = 0; i < count; i++) mass += row[positions[i]];
  out.massRecall = Math.min(1, mass);
  out.tokens = count;
  if (count === 0 || count === n) {
    out.topkRecall = count === 0 ? 0 : 1;
    return;
  }
  const { bits, ties } = topKThreshold(row, n, count);
  const words = new Uint32Array(row.buffer, row.byteOffset, n);
  let hits = 0;
  let tied = 0;
  for (let i = 0; i < count; i++) {
    const word = words[positions[i]];
    if (word > bits) hits++;
    else if (word === bits) tied++;
  }
  out.topkRecall = (hits + Math.min(tied, ties)) / count;
};

/** Lists into `kept` the positions whose rows are raw and whose weight can matter; also the sum of their weights. */
const listRaw = (
  row: Float32Array,
  { positions, count }: Selection,
  coded: Uint8Array | null,
  kept: Int32Array,
) => {
  let size = 0;
  let weight = 0;
  for (let i = 0; i < count; i++) {
    const token = positions[i];
    if (row[token] < NEGLIGIBLE_MASS || (coded !== null && coded[token] !== 0)) continue;
    weight += row[token];
    kept[size++] = token;
  }
  return { size, weight };
};

const addDecoded = (input: MeasureInput, block: DecodedBlock, g: number, out: Float64Array): number => {
  const { exact, selection, queries, headDim } = input;
  const { marks } = selection;
  const dim = exact.valueDim;
  const scale = 1 / Math.sqrt(headDim);
  let weight = 0;
  for (let t = 0; t < block.tokens; t++) {
    const token = block.from + t;
    if (!selection.all && ((marks[token] >> g) & 1) === 0) continue;
    let logit = 0;
    for (let c = 0; c < headDim; c++) logit += queries[g * headDim + c] * block.keys[t * headDim + c];
    const w = exp(logit * scale - exact.maxLogit[g]) / exact.normaliser[g];
    weight += w;
    if (block.values === null || w < NEGLIGIBLE_MASS) continue;
    for (let c = 0; c < dim; c++) out[c] += w * block.values[t * dim + c];
  }
  return weight;
};

const relativeError = (sum: Float64Array, weight: number, exact: ExactAttention, g: number): number => {
  if (weight === 0) return 1;
  let difference = 0;
  let norm = 0;
  for (let c = 0; c < exact.valueDim; c++) {
    const truth = exact.output[g * exact.valueDim + c];
    const delta = sum[c] / weight - truth;
    difference += delta * delta;
    norm += truth * truth;
  }
  return norm === 0 ? 0 : Math.sqrt(difference / norm);
};

/** Measures query head `g` of the group into `out`. `coded[i]` != 0 marks tokens covered by `decoded`. */
export const measureHead = (
  input: MeasureInput,
  g: number,
  coded: Uint8Array | null,
  scratch: Float64Array,
  out: HeadQuality,
): void => {
  const { exact, selection, values, decoded } = input;
  const n = exact.length;
  const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + n);
  out.outputError = values === null ? -1 : 0;
  if (selection.all && decoded.length === 0) {
    out.massRecall = 1;
    out.topkRecall = 1;
    out.tokens = n;
    return;
  }
  if (selection.all) selection.take(0, n);
  const count = selection.list(g);
  measureMass(row, n, selection.positions, count, out);
  if (values === null) return;
  const sum = scratch.subarray(0, exact.valueDim).fill(0);
  const raw = listRaw(row, selection, decoded.length > 0 ? coded : null, exact.significant);
  addRows(row, exact.significant, raw.size, values, exact.valueDim, sum);
  let { weight } = raw;
  for (const block of decoded) weight += addDecoded(input, block, g, sum);
  out.outputError = relativeError(sum, weight, exact, g);
};
