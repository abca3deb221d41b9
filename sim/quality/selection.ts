/**
 * The set of tokens that one KV head's query group attends to in one step: "all live", or explicit marks.
 * Marks are bit sets over the query heads of the group, because some policies choose per query head.
 */
import { SimError } from '../error.ts';

/** Bit pattern of "every query head of the group". */
export const EVERY_QUERY = -1;

/** Query heads in a set. */
export const bitCount = (set: number): number => {
  let count = 0;
  for (let bits = set; bits !== 0; bits &= bits - 1) count++;
  return count;
};

/**
 * Rows that stand for tokens which are not attended one by one: each counts as `sizes[i]` tokens of this key whose mean
 * value is this. They lie in HBM, in raw form.
 */
export interface EstimatedRows {
  readonly count: number;
  /** Row-major [count, headDim]. */
  readonly keys: Float32Array;
  /** Row-major [count, headDim]; null when the trace has no values. */
  readonly values: Float32Array | null;
  readonly sizes: Float32Array;
}

export class Selection {
  /** True until the first explicit choice: everything live is attended. */
  all = true;
  /** True once a choice named a single query head. */
  perQuery = false;
  /** Per token: which query heads of the group attend to it. Valid for positions 0..length-1. */
  readonly marks: Int32Array;
  /** Attended positions, ascending; the first `count` are valid after `list`. */
  readonly positions: Int32Array;
  count = 0;
  length = 0;
  /** What stands for tokens that are not attended themselves. */
  readonly estimates: EstimatedRows[] = [];
  private isListed = false;
  /** Per query head, the factor of each token's softmax weight; a row is made when first written. */
  private readonly factors: (Float32Array | undefined)[] = [];
  private readonly factored = new Set<number>();

  constructor(capacityTokens: number) {
    this.marks = new Int32Array(capacityTokens);
    this.positions = new Int32Array(capacityTokens);
  }

  reset(length: number): void {
    this.all = true;
    this.perQuery = false;
    this.isListed = false;
    this.length = length;
    this.estimates.length = 0;
    this.factored.clear();
  }

  none(): void {
    if (!this.all) return;
    this.all = false;
    this.marks.fill(0, 0, this.length);
  }

  /** Adds tokens [from, to), cut to what exists. */
  take(from: number, to: number, query?: number): void {
    this.none();
    const end = Math.min(to, this.length);
    if (query === undefined) {
      this.marks.fill(EVERY_QUERY, Math.max(0, from), end);
      return;
    }
    if (query > 31) {
      throw new SimError(
        'not-supported',
        `a choice per query head needs groups of at most 32, got head ${query}`,
      );
    }
    this.perQuery = true;
    const bit = 1 << query;
    for (let token = Math.max(0, from); token < end; token++) this.marks[token] |= bit;
  }

  /** Multiplies the softmax weight of a token for one query head, as a sampler does to correct its own bias. */
  weigh(token: number, query: number, factor: number): void {
    const row = this.factors[query] ?? new Float32Array(this.marks.length);
    if (!this.factored.has(query)) row.fill(1, 0, this.length);
    this.factors[query] = row;
    this.factored.add(query);
    this.perQuery = true;
    row[token] = factor;
  }

  /** Whether any token was weighed. */
  get isWeighed(): boolean {
    return this.factored.size > 0;
  }

  /** Factors of query head `query` by token; null when all are 1. */
  factorsOf(query: number): Float32Array | null {
    return (this.factored.has(query) ? this.factors[query] : null) ?? null;
  }

  /** Removes what is not live (place[token] = 0) and makes "all" explicit when something was dropped. */
  restrictTo(place: Uint8Array, liveTokens: number): void {
    const { marks, length } = this;
    if (this.all) {
      if (liveTokens === length) return;
      this.all = false;
      for (let token = 0; token < length; token++) marks[token] = place[token] === 0 ? 0 : EVERY_QUERY;
      return;
    }
    if (liveTokens === length) return;
    for (let token = 0; token < length; token++) if (place[token] === 0) marks[token] = 0;
  }

  /** Whether any query head attends to any of tokens [from, to). */
  touches(from: number, to: number): boolean {
    if (this.all) return true;
    const { marks } = this;
    for (let token = from; token < to; token++) if (marks[token] !== 0) return true;
    return false;
  }

  /** Lists the positions that query head `query` attends to into `positions`; their number. Call after all choices. */
  list(query: number): number {
    if (this.isListed && !this.perQuery) return this.count;
    const { marks, positions, length } = this;
    let count = 0;
    for (let token = 0; token < length; token++) if ((marks[token] >> query) & 1) positions[count++] = token;
    this.count = count;
    this.isListed = true;
    return count;
  }
}
