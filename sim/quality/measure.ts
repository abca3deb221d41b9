/**
 * Attention quality of one head group's selection in one step, against exact attention: mass recall, top-k recall
 * at k = |T|, and the relative error of the attention output. For an exact subset KL(ã‖a) = -ln(mass recall), so
 * no separate divergence is reported.
 */
import { addWeightedRows, dotRows, exponentiate, scaleEntries } from '../engine/simd.ts';
import type { ExactAttention } from './exact-attention.ts';
import type { Selection } from './selection.ts';
import { RankedRow } from './top-k.ts';

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
  /** Token → covered by `decoded`; read only where there are such blocks. */
  readonly coded: Uint8Array;
}

/** Room that measuring needs, and the ranks of the current step's rows, which all policies share. */
export class MeasureRoom {
  readonly results: readonly HeadQuality[];
  readonly raw: Int32Array;
  readonly sums: Float64Array;
  readonly weights: Float64Array;
  /** Weights over one decoded block, row-major [groupSize, tokens]; grows. */
  blockWeights = new Float32Array(0);
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
  room.weights[g] = mass;
  out.massRecall = Math.min(1, mass);
};

/** Adds the rows of the first `count` listed positions that are raw, for query heads [g, g + queries). */
const addRaw = (
  { exact, selection, values, decoded, coded }: MeasureInput,
  g: number,
  queries: number,
  count: number,
  room: MeasureRoom,
): void => {
  if (values === null) return;
  const { stride, valueDim } = exact;
  const weights = exact.probabilities.subarray(g * stride);
  let positions = selection.positions;
  let size = count;
  if (decoded.length > 0) {
    positions = room.raw;
    size = 0;
    for (let i = 0; i < count; i++) {
      const token = selection.positions[i];
      if (coded[token] === 0) positions[size++] = token;
    }
    for (let q = 0; q < queries; q++) {
      let weight = 0;
      for (let i = 0; i < size; i++) weight += weights[q * stride + positions[i]];
      room.weights[g + q] = weight;
    }
  }
  const out = room.sums.subarray(g * valueDim, (g + queries) * valueDim);
  const job = { weights, queryCount: queries, stride, rows: values, rowCount: size, channels: valueDim, out };
  addWeightedRows(job, positions);
};

/** Adds what a decoded block contributes: its keys give other logits, its values other rows. */
const addDecoded = (input: MeasureInput, block: DecodedBlock, room: MeasureRoom): void => {
  const { exact, selection, queries, headDim } = input;
  const { groupSize, valueDim } = exact;
  const { tokens } = block;
  if (room.blockWeights.length < groupSize * tokens) room.blockWeights = new Float32Array(groupSize * tokens);
  const weights = room.blockWeights;
  dotRows({
    queries,
    queryCount: groupSize,
    rows: block.keys,
    rowCount: tokens,
    channels: headDim,
    out: weights,
    stride: tokens,
    scale: 1 / Math.sqrt(headDim),
  });
  for (let g = 0; g < groupSize; g++) {
    const row = weights.subarray(g * tokens, (g + 1) * tokens);
    exponentiate(row, tokens, exact.maxLogit[g]);
    scaleEntries(row, tokens, 1 / exact.normaliser[g]);
    for (let t = 0; t < tokens; t++) {
      if (!selection.all && ((selection.marks[block.from + t] >> g) & 1) === 0) row[t] = 0;
      room.weights[g] += row[t];
    }
  }
  if (block.values === null) return;
  addWeightedRows({
    weights,
    queryCount: groupSize,
    stride: tokens,
    rows: block.values,
    rowCount: tokens,
    channels: valueDim,
    out: room.sums,
  });
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
  const { exact, selection, values, decoded } = input;
  const { groupSize, length } = exact;
  for (const out of room.results) {
    out.massRecall = 1;
    out.topkRecall = 1;
    out.outputError = values === null ? -1 : 0;
    out.tokens = length;
  }
  if (selection.all && decoded.length === 0) return;
  room.sums.fill(0);
  if (selection.all) selection.take(0, length);
  for (let g = 0; g < groupSize; g++) {
    const count = selection.list(g);
    measureMass(exact, g, count, selection, room);
    if (selection.perQuery) addRaw(input, g, 1, count, room);
  }
  if (!selection.perQuery) addRaw(input, 0, groupSize, selection.count, room);
  if (values === null) return;
  for (const block of decoded) addDecoded(input, block, room);
  for (let g = 0; g < groupSize; g++) room.results[g].outputError = relativeError(exact, g, room);
};
