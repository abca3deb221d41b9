/**
 * Attention quality of one head group's selection in one step, against exact attention: what the attended tokens hold
 * (recall.ts), what coding and estimating did to the weights (distortion.ts), and the error of the output:
 * ε = ‖Σ ã v̂ - o‖ / ‖o‖, with ã and v̂ the policy's own weights and decoded values, and o the exact output.
 */
import { addWeightedRows, exponentiate, scaleEntries } from '../engine/simd.ts';
import { measureCoding, totalVariation } from './distortion.ts';
import { type ExactAttention, logitsInto } from './exact-attention.ts';
import { setPerfect } from './head-quality.ts';
import type { DecodedRows, MeasureInput, MeasureRoom } from './measure-room.ts';
import { measureRecall } from './recall.ts';
import type { EstimatedRows } from './selection.ts';

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
  const weights = room.rowsOfPiece(groupSize * tokens);
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
  const weights = room.rowsOfPiece(groupSize * count);
  numeratorsInto(exact, queries, keys, headDim, count, weights, count);
  for (let g = 0, at = 0; g < groupSize; g++) {
    for (let i = 0; i < count; i++, at++) {
      weights[at] *= sizes[i];
      room.weights[g] += weights[at];
      room.estimated[g] += weights[at];
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
  const { exact, selection, values, headDim, decodedKeys, decodedValues } = input;
  const { groupSize, length } = exact;
  for (const out of room.results) setPerfect(out, length, values !== null);
  const isCoded = decodedKeys.length > 0 || decodedValues.length > 0;
  if (selection.all && !isCoded) return;
  room.sums.fill(0);
  room.estimated.fill(0);
  if (selection.all) selection.take(0, length);
  const own = ownWeights(input, room);
  const norms = values === null ? null : room.truth.normsOf(values, headDim);
  for (let g = 0; g < groupSize; g++) {
    const count = selection.list(g);
    measureRecall(exact, g, count, selection, room.truth, norms, room.results[g]);
    if (selection.perQuery) addRaw(input, own, g, 1, count, room);
  }
  if (!selection.perQuery) addRaw(input, own, 0, groupSize, selection.count, room);
  if (values !== null) {
    for (const piece of decodedValues) addDecoded(input, own, piece, room);
    for (const rows of selection.estimates) addEstimated(input, rows, room);
  }
  if (isCoded) measureCoding(input, room);
  for (let g = 0; g < groupSize; g++) {
    const result = room.results[g];
    if (values !== null) result.outputError = relativeError(exact, g, room);
    const isOwn = own !== exact.probabilities || room.estimated[g] > 0;
    result.totalVariation = isOwn ? totalVariation(input, own, g, room) : 1 - result.massRecall;
  }
};
