/**
 * The set of tokens that one KV head's query group attends to in one step: "all live", or explicit marks.
 * Marks are bit sets over the query heads of the group, because some policies choose per query head.
 */
import { SimError } from '../error.ts';

/** Bit pattern of "every query head of the group". */
const EVERY_QUERY = 0xffffffff;

export class Selection {
  /** True until the first explicit choice: everything live is attended. */
  all = true;
  /** True once a choice named a single query head. */
  perQuery = false;
  /** Per token: which query heads of the group attend to it. Valid for positions 0..length-1. */
  readonly marks: Uint32Array;
  length = 0;

  constructor(capacityTokens: number) {
    this.marks = new Uint32Array(capacityTokens);
  }

  reset(length: number): void {
    this.all = true;
    this.perQuery = false;
    this.length = length;
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
    if (query > 31)
      throw new SimError(
        'not-supported',
        `a choice per query head needs groups of at most 32, got head ${query}`,
      );
    this.perQuery = true;
    const bit = (1 << query) >>> 0;
    for (let token = Math.max(0, from); token < end; token++) this.marks[token] |= bit;
  }

  /** Removes what is not live (place[token] = 0) and makes "all" explicit when something was dropped. */
  restrictTo(place: Uint8Array, liveTokens: number): void {
    if (this.all) {
      if (liveTokens === this.length) return;
      this.all = false;
      for (let token = 0; token < this.length; token++)
        this.marks[token] = place[token] === 0 ? 0 : EVERY_QUERY;
      return;
    }
    for (let token = 0; token < this.length; token++) if (place[token] === 0) this.marks[token] = 0;
  }
}
