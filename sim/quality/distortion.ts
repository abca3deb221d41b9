/**
 * What stored forms did to the attention, where mass recall cannot see it: the error of logits, RMS of q·k - q·k̂ over √d
 * on the attended coded tokens; the attention-weighted relative error of rows, Σ a‖x - x̂‖² / Σ a‖x‖² over the attended
 * tokens, of keys and of values; and the total variation ½ Σ |a - ã| between exact and own softmax, which holds for
 * coded and estimated tokens too (for an exact subset it is 1 - ρ). KIVI (arXiv 2402.02750, table 2) and KVQuant
 * (arXiv 2401.18079) judge codecs by such errors.
 */
import { logitsInto } from './exact-attention.ts';
import type { DecodedRows, MeasureInput, MeasureRoom } from './measure-room.ts';

/** Σ a‖x - x̂‖² / Σ a‖x‖² over the tokens that query head g attends to. */
const rowError = (
  { exact, selection }: MeasureInput,
  pieces: readonly DecodedRows[],
  norms: Float32Array,
  g: number,
): number => {
  const { marks } = selection;
  const at = g * exact.stride;
  let error = 0;
  let size = 0;
  for (let i = 0; i < exact.length; i++)
    if ((marks[i] >> g) & 1) size += exact.probabilities[at + i] * norms[i] * norms[i];
  for (const { from, tokens, squaredErrors } of pieces) {
    for (let t = 0; t < tokens; t++)
      if ((marks[from + t] >> g) & 1) error += exact.probabilities[at + from + t] * squaredErrors[t];
  }
  return size === 0 ? 0 : error / size;
};

/** Sum of squared logit errors per query head, and how many logits that are. */
const addLogitErrors = (
  { exact, selection, queries, keys, headDim }: MeasureInput,
  { from, tokens, rows }: DecodedRows,
  room: MeasureRoom,
  squares: Float64Array,
  counts: Int32Array,
): void => {
  const { groupSize } = exact;
  const size = groupSize * tokens;
  const both = room.rowsOfPiece(2 * size);
  const [own, raw] = [both.subarray(0, size), both.subarray(size, 2 * size)];
  logitsInto(queries, groupSize, rows, headDim, tokens, own, tokens);
  logitsInto(queries, groupSize, keys.subarray(from * headDim), headDim, tokens, raw, tokens);
  for (let g = 0; g < groupSize; g++) {
    for (let t = 0, at = g * tokens; t < tokens; t++, at++) {
      if (((selection.marks[from + t] >> g) & 1) === 0) continue;
      const error = own[at] - raw[at];
      squares[g] += error * error;
      counts[g]++;
    }
  }
};

/** Fills the errors of coded keys and values of every query head. The selection must be explicit. */
export const measureCoding = (input: MeasureInput, room: MeasureRoom): void => {
  const { exact, headDim, keys, values, decodedKeys, decodedValues } = input;
  const squares = new Float64Array(exact.groupSize);
  const counts = new Int32Array(exact.groupSize);
  for (const piece of decodedKeys) addLogitErrors(input, piece, room, squares, counts);
  for (const [g, out] of room.results.entries()) {
    if (decodedKeys.length > 0) {
      out.logitRms = counts[g] === 0 ? 0 : Math.sqrt(squares[g] / counts[g]);
      out.keyError = rowError(input, decodedKeys, room.truth.normsOf(keys, headDim), g);
    }
    if (decodedValues.length > 0 && values !== null)
      out.valueError = rowError(input, decodedValues, room.truth.normsOf(values, headDim), g);
  }
};

/**
 * ½ Σ |a - ã| for query head g. Tokens that estimated rows stand for are taken together with all that is not attended:
 * a lower bound, and exact without such rows.
 */
export const totalVariation = (
  { exact, selection }: MeasureInput,
  own: Float32Array,
  g: number,
  { weights, estimated }: MeasureRoom,
): number => {
  const at = g * exact.stride;
  const total = weights[g];
  if (total === 0) return 1;
  let attended = 0;
  let variation = 0;
  for (let i = 0; i < exact.length; i++) {
    if (((selection.marks[i] >> g) & 1) === 0) continue;
    attended += exact.probabilities[at + i];
    variation += Math.abs(exact.probabilities[at + i] - own[at + i] / total);
  }
  return Math.min(1, (variation + Math.abs(1 - attended - estimated[g] / total)) / 2);
};
