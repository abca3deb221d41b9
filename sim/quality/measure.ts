/**
 * Attention quality of one head group's selection in one step, against exact attention: mass recall, top-k recall
 * at k = |T|, and the relative error of the attention output. For an exact subset KL(ã‖a) = -ln(mass recall), so
 * no separate divergence is reported.
 */
import { addWeightedRows, exponentiate, scaleEntries } from '../engine/simd.ts';
import { type ExactAttention, logitsInto } from './exact-attention.ts';
import type { EstimatedRows, Selection } from './selection.ts';
import { RankedRow } from './top-k.ts';

/** Coded keys, or values, that override the trace's own: decoded rows of tokens [from, from + tokens). */
export interface DecodedRows {
  readonly from: number;
  readonly tokens: number;
  /** Row-major, at least `tokens` rows. */
  readonly rows: Float32Array;
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
  /** What is coded of the selection; disjoint pieces; empty when everything is raw. */
  readonly decodedKeys: readonly DecodedRows[];
  readonly decodedValues: readonly DecodedRows[];
  /** Token → its value is coded; read only where there are `decodedValues`. */
  readonly codedValues: Uint8Array;
}

/** Room that measuring needs, and the ranks of the current step's rows, which all policies share. */
export class MeasureRoom {
  readonly results: readonly HeadQuality[];
  readonly raw: Int32Array;
  readonly sums: Float64Array;
  readonly weights: Float64Array;
  /** Unnormalised weights that the policy's own keys give, row-major [groupSize, capacityTokens]; made when needed. */
  private ownWeights = new Float32Array(0);
  /** Weights over one decoded piece, row-major [groupSize, tokens]; grows. */
  private pieceWeights = new Float32Array(0);
  private readonly ranked: readonly RankedRow[];
  private readonly isRanked: Uint8Array;

  constructor(groupSize: number, capacityTokens: number, valueDim: number) {
    this.results = Array.from({ length: groupSize }, () => ({
      massRecall: 0,
      topkRecall: 0,
      outputError: 0,
      tokens: 0,
    }));
    this.raw = new Int32Array(capacityTokens);
    this.sums = new Float64Array(groupSize * valueDim);
    this.weights = new Float64Array(groupSize);
    this.ranked = this.results.map(() => new RankedRow(capacityTokens));
    this.isRanked = new Uint8Array(groupSize);
  }

  /** Another head or step is about to be measured. */
  forget(): void {
    this.isRanked.fill(0);
  }

  weightRows(size: number): Float32Array {
    if (this.ownWeights.length < size) this.ownWeights = new Float32Array(size);
    return this.ownWeights;
  }

  weightsOfPiece(size: number): Float32Array {
    if (this.pieceWeights.length < size) this.pieceWeights = new Float32Array(size);
    return this.pieceWeights;
  }

  ranksOf(exact: ExactAttention, g: number): RankedRow {
    if (this.isRanked[g] === 0) {
      this.ranked[g].rank(exact.probabilities.subarray(g * exact.stride), exact.length);
      this.isRanked[g] = 1;
    }
    return this.ranked[g];
  }
}

/** Mass and top-k recall of the first `count` of the listed positions for query head g. */
const measureMass = (
  exact: ExactAttention,
  g: number,
  count: number,
  selection: Selection,
  room: MeasureRoom,
): void => {
  const { positions } = selection;
  const out = room.results[g];
  const n = exact.length;
  const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + n);
  out.tokens = count;
  out.topkRecall = count === 0 ? 0 : 1;
  let mass = 0;
  if (count === 0 || count === n) {
    for (let i = 0; i < count; i++) mass += row[positions[i]];
  } else {
    const { bits, ties } = room.ranksOf(exact, g).threshold(count);
    const words = new Uint32Array(row.buffer, row.byteOffset, n);
    let hits = 0;
    let tied = 0;
    for (let i = 0; i < count; i++) {
      const at = positions[i];
      const word = words[at];
      mass += row[at];
      if (word > bits) hits++;
      else if (word === bits) tied++;
    }
    out.topkRecall = (hits + Math.min(tied, ties)) / count;
  }
  out.massRecall = Math.min(1, mass);
};

/**
 * Softmax numerators over the stored keys, times the policy's own factors, on the scale of the exact ones; rows as in
 * `exact.probabilities`.
 */
const ownWeights = (input: MeasureInput, room: MeasureRoom): Float32Array => {
  const { exact, selection, decodedKeys, queries, headDim } = input;
  const { groupSize, stride, length } = exact;
  if (decodedKeys.length === 0 && !selection.isWeighed) return exact.probabilities;
  const weights = room.weightRows(groupSize * stride);
  for (let g = 0; g < groupSize; g++)
    weights.set(exact.probabilities.subarray(g * stride, g * stride + length), g * stride);
  for (const { from, tokens, rows } of decodedKeys) {
    numeratorsInto(exact, queries, rows, headDim, tokens, weights.subarray(from), stride);
  }
  for (let g = 0; g < groupSize; g++) {
    const factors = selection.factorsOf(g);
    if (factors === null) continue;
    for (let i = 0; i < length; i++) weights[g * stride + i] *= factors[i];
  }
  return weights;
};

/** Softmax numerators of the group's queries over other keys than the trace's, on the scale of the exact ones. */
const numeratorsInto = (
  exact: ExactAttention,
  queries: Float32Array,
  keys: Float32Array,
  headDim: number,
  count: number,
  out: Float32Array,
  stride: number,
): void => {
  logitsInto(queries, exact.groupSize, keys, headDim, count, out, stride);
  for (let g = 0; g < exact.groupSize; g++) {
    const row = out.subarray(g * stride, g * stride + count);
    exponentiate(row, count, exact.maxLogit[g]);
    scaleEntries(row, count, 1 / exact.normaliser[g]);
  }
};

/** Adds the values of the first `count` listed positions that are raw, for query heads [g, g + queries). */
const addRaw = (
  { exact, selection, values, decodedValues, codedValues }: MeasureInput,
  own: Float32Array,
  g: number,
  queries: number,
  count: number,
  room: MeasureRoom,
): void => {
  const { stride, valueDim } = exact;
  const weights = own.subarray(g * stride);
  for (let q = 0; q < queries; q++) {
    let weight = 0;
    for (let i = 0; i < count; i++) weight += weights[q * stride + selection.positions[i]];
    room.weights[g + q] = weight;
  }
  if (values === null) return;
  let positions = selection.positions;
  let size = count;
  if (decodedValues.length > 0) {
    positions = room.raw;
    size = 0;
    for (let i = 0; i < count; i++) {
      const token = selection.positions[i];
      if (codedValues[token] === 0) positions[size++] = token;
    }
  }
  const out = room.sums.subarray(g * valueDim, (g + queries) * valueDim);
  const job = { weights, queryCount: queries, stride, rows: values, rowCount: size, channels: valueDim, out };
  addWeightedRows(job, positions);
};

/** Adds a piece of decoded values, as far as they are attended. */
const addDecoded = (input: MeasureInput, own: Float32Array, piece: DecodedRows, room: MeasureRoom): void => {
  const { groupSize, valueDim, stride } = input.exact;
  const { marks } = input.selection;
  const { from, tokens, rows } = piece;
  const weights = room.weightsOfPiece(groupSize * tokens);
  for (let g = 0; g < groupSize; g++) {
    for (let t = 0; t < tokens; t++)
      weights[g * tokens + t] = (marks[from + t] >> g) & 1 ? own[g * stride + from + t] : 0;
  }
  addWeightedRows({
    weights,
    queryCount: groupSize,
    stride: tokens,
    rows,
    rowCount: tokens,
    channels: valueDim,
    out: room.sums,
  });
};

/** Adds rows that stand for tokens; each counts once for every token that it stands for. */
const addEstimated = (input: MeasureInput, estimated: EstimatedRows, room: MeasureRoom): void => {
  const { exact, queries, headDim } = input;
  const { groupSize, valueDim } = exact;
  const { count, keys, values, sizes } = estimated;
  if (values === null) return;
  const weights = room.weightsOfPiece(groupSize * count);
  numeratorsInto(exact, queries, keys, headDim, count, weights, count);
  for (let g = 0, at = 0; g < groupSize; g++) {
    for (let i = 0; i < count; i++, at++) {
      weights[at] *= sizes[i];
      room.weights[g] += weights[at];
    }
  }
  const job = { weights, queryCount: groupSize, stride: count, rows: values, rowCount: count };
  addWeightedRows({ ...job, channels: valueDim, out: room.sums });
};

const relativeError = (exact: ExactAttention, g: number, { sums, weights }: MeasureRoom): number => {
  if (weights[g] === 0) return 1;
  let difference = 0;
  let norm = 0;
  for (let c = g * exact.valueDim; c < (g + 1) * exact.valueDim; c++) {
    const truth = exact.output[c];
    const delta = sums[c] / weights[g] - truth;
    difference += delta * delta;
    norm += truth * truth;
  }
  return norm === 0 ? 0 : Math.sqrt(difference / norm);
};

/** Measures every query head of the group into `room.results`. */
export const measureGroup = (input: MeasureInput, room: MeasureRoom): void => {
  const { exact, selection, values, decodedKeys, decodedValues } = input;
  const { groupSize, length } = exact;
  for (const out of room.results) {
    out.massRecall = 1;
    out.topkRecall = 1;
    out.outputError = values === null ? -1 : 0;
    out.tokens = length;
  }
  if (selection.all && decodedKeys.length === 0 && decodedValues.length === 0) return;
  room.sums.fill(0);
  if (selection.all) selection.take(0, length);
  const own = ownWeights(input, room);
  for (let g = 0; g < groupSize; g++) {
    const count = selection.list(g);
    measureMass(exact, g, count, selection, room);
    if (selection.perQuery) addRaw(input, own, g, 1, count, room);
  }
  if (!selection.perQuery) addRaw(input, own, 0, groupSize, selection.count, room);
  if (values === null) return;
  for (const piece of decodedValues) addDecoded(input, own, piece, room);
  for (const rows of selection.estimates) addEstimated(input, rows, room);
  for (let g = 0; g < groupSize; g++) room.results[g].outputError = relativeError(exact, g, room);
};
