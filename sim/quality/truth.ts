/**
 * What exact attention says of one head group in one step, worked out once and shared by all policies that are measured
 * against it: ranks of the tokens, sums weighted by values, norms of rows.
 */
import type { ExactAttention } from './exact-attention.ts';
import { RankedRow } from './ranked-row.ts';

/** Shares of the attention mass for which the least number of tokens is reported. */
export const ORACLE_SHARES = [0.9, 0.95, 0.99] as const;

export class Truth {
  private readonly ranked: readonly RankedRow[];
  private readonly isRanked: Uint8Array;
  private readonly oracle: readonly Float64Array[];
  private readonly hasOracle: Uint8Array;
  /** Σ a‖v‖ per query head; NaN until asked for. */
  private readonly valueTotals: Float64Array;
  private readonly norms = new WeakMap<Float32Array, Float32Array>();

  constructor(groupSize: number, capacityTokens: number) {
    const group = Array.from({ length: groupSize });
    this.ranked = group.map(() => new RankedRow(capacityTokens));
    this.oracle = group.map(() => new Float64Array(ORACLE_SHARES.length));
    this.isRanked = new Uint8Array(groupSize);
    this.hasOracle = new Uint8Array(groupSize);
    this.valueTotals = new Float64Array(groupSize);
  }

  /** Another head or step is about to be measured. */
  forget(): void {
    this.isRanked.fill(0);
    this.hasOracle.fill(0);
    this.valueTotals.fill(Number.NaN);
  }

  ranksOf(exact: ExactAttention, g: number): RankedRow {
    if (this.isRanked[g] === 0) {
      this.ranked[g].rank(exact.probabilities.subarray(g * exact.stride), exact.length);
      this.isRanked[g] = 1;
    }
    return this.ranked[g];
  }

  /** Least number of tokens that hold each of `ORACLE_SHARES`. */
  oracleTokens(exact: ExactAttention, g: number): Float64Array {
    if (this.hasOracle[g] === 0) {
      const ranks = this.ranksOf(exact, g);
      for (const [i, share] of ORACLE_SHARES.entries()) this.oracle[g][i] = ranks.entriesFor(share);
      this.hasOracle[g] = 1;
    }
    return this.oracle[g];
  }

  /** Σ a‖v‖ over all tokens. */
  valueTotal(exact: ExactAttention, g: number, norms: Float32Array): number {
    if (Number.isNaN(this.valueTotals[g])) {
      let total = 0;
      for (let i = 0, at = g * exact.stride; i < exact.length; i++, at++)
        total += exact.probabilities[at] * norms[i];
      this.valueTotals[g] = total;
    }
    return this.valueTotals[g];
  }

  /** Euclidean norms of the rows of a matrix with `channels` columns. */
  normsOf(rows: Float32Array, channels: number): Float32Array {
    const known = this.norms.get(rows);
    if (known !== undefined) return known;
    const norms = Float32Array.from({ length: rows.length / channels }, (_, row) => {
      let square = 0;
      for (let i = row * channels, end = i + channels; i < end; i++) square += rows[i] * rows[i];
      return Math.sqrt(square);
    });
    this.norms.set(rows, norms);
    return norms;
  }
}
