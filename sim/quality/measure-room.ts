/** What measuring one head group's selection takes, and the room that it needs; shared by all policies of a run. */
import type { ExactAttention } from './exact-attention.ts';
import { createHeadQuality, type HeadQuality } from './head-quality.ts';
import type { Selection } from './selection.ts';
import { Truth } from './truth.ts';

/** Coded keys, or values, that override the trace's own: decoded rows of tokens [from, from + tokens). */
export interface DecodedRows {
  readonly from: number;
  readonly tokens: number;
  /** Row-major, at least `tokens` rows. */
  readonly rows: Float32Array;
  /** Squared distance of each row from what was coded. */
  readonly squaredErrors: Float32Array;
}

export interface MeasureInput {
  readonly exact: ExactAttention;
  readonly selection: Selection;
  /** Row-major [groupSize, headDim]. */
  readonly queries: Float32Array;
  readonly headDim: number;
  /** The trace's own rows, row-major [at least length, headDim]. */
  readonly keys: Float32Array;
  readonly values: Float32Array | null;
  /** What is coded of the selection; disjoint pieces; empty when everything is raw. */
  readonly decodedKeys: readonly DecodedRows[];
  readonly decodedValues: readonly DecodedRows[];
  /** Token → its value is coded; read only where there are `decodedValues`. */
  readonly codedValues: Uint8Array;
}

/** Room that measuring needs, and what is known of the current head and step, which all policies share. */
export class MeasureRoom {
  readonly results: readonly HeadQuality[];
  readonly truth: Truth;
  readonly raw: Int32Array;
  readonly sums: Float64Array;
  /** Sum of the policy's unnormalised weights per query head, and what of it estimated rows hold. */
  readonly weights: Float64Array;
  readonly estimated: Float64Array;
  /** Unnormalised weights that the policy's own keys give, row-major [groupSize, capacityTokens]; made when needed. */
  private ownWeights = new Float32Array(0);
  /** Numbers over one piece, row-major [groupSize, tokens]; grows. */
  private pieceRows = new Float32Array(0);

  constructor(groupSize: number, capacityTokens: number, valueDim: number) {
    this.results = Array.from({ length: groupSize }, createHeadQuality);
    this.truth = new Truth(groupSize, capacityTokens);
    this.raw = new Int32Array(capacityTokens);
    this.sums = new Float64Array(groupSize * valueDim);
    this.weights = new Float64Array(groupSize);
    this.estimated = new Float64Array(groupSize);
  }

  /** Another head or step is about to be measured. */
  forget(): void {
    this.truth.forget();
  }

  weightRows(size: number): Float32Array {
    if (this.ownWeights.length < size) this.ownWeights = new Float32Array(size);
    return this.ownWeights;
  }

  rowsOfPiece(size: number): Float32Array {
    if (this.pieceRows.length < size) this.pieceRows = new Float32Array(size);
    return this.pieceRows;
  }
}
