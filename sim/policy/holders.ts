/**
 * Which tokens each chooser of a KV head holds. One chooser is the group as a whole; as many as query heads are KV
 * replicated to query heads, where a token is stored once for each that holds it and dropped with the last. Lists, not
 * bit sets: a step costs what is held, not the context.
 */
import type { HeadCache } from '../memory/head-cache.ts';
import { topKThreshold } from '../quality/top-k.ts';
import type { Pick } from './policy.ts';

export class Holders {
  readonly choosers: number;
  /** Held positions per chooser, ascending; the first `counts[c]` are valid. */
  readonly positions: readonly Int32Array[];
  readonly counts: Int32Array;
  private readonly cache: HeadCache;
  private readonly gathered: Float32Array;

  constructor(cache: HeadCache, choosers: number) {
    this.cache = cache;
    this.choosers = choosers;
    this.positions = Array.from({ length: choosers }, () => new Int32Array(cache.capacityTokens));
    this.counts = new Int32Array(choosers);
    this.gathered = new Float32Array(cache.capacityTokens);
  }

  /** Tokens held, summed over the choosers: what is stored. */
  get rows(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** Tokens [from, to) were just written: every chooser holds them. */
  add(from: number, to: number): void {
    for (let chooser = 0; chooser < this.choosers; chooser++) {
      for (let token = from; token < to; token++) this.positions[chooser][this.counts[chooser]++] = token;
    }
  }

  /** Keeps of a chooser's tokens those that `keep` wants, by position. */
  retain(chooser: number, keep: (token: number, index: number) => boolean): void {
    const held = this.positions[chooser];
    const before = this.counts[chooser];
    let count = 0;
    for (let index = 0; index < before; index++) {
      const token = held[index];
      if (keep(token, index)) held[count++] = token;
      else this.cache.setCopies(token, this.cache.copies[token] - 1);
    }
    this.counts[chooser] = count;
  }

  /**
   * Marks (1) the indices of the `count` tokens with the least score (by position, not negative) among a chooser's held
   * ones at indices [from, to); of equal scores the older are marked.
   */
  least(chooser: number, scores: Float32Array, from: number, to: number, count: number): Uint8Array {
    const marks = new Uint8Array(this.counts[chooser]);
    const candidates = to - from;
    if (count <= 0 || candidates <= 0) return marks;
    if (count >= candidates) return marks.fill(1, from, to);
    const held = this.positions[chooser];
    const { gathered } = this;
    for (let i = 0; i < candidates; i++) gathered[i] = scores[held[from + i]];
    const { value, ties } = leastKept(gathered, candidates, candidates - count);
    // Ties that go are the first ones met.
    let leaving = -ties;
    for (let i = 0; i < candidates; i++) if (gathered[i] === value) leaving++;
    for (let i = 0; i < candidates; i++) {
      const goes = gathered[i] < value || (gathered[i] === value && leaving-- > 0);
      if (goes) marks[from + i] = 1;
    }
    return marks;
  }

  /** Drops what `least` marks. */
  dropLeast(chooser: number, scores: Float32Array, from: number, to: number, count: number): void {
    if (count <= 0 || to <= from) return;
    const marks = this.least(chooser, scores, from, to, count);
    this.retain(chooser, (_, index) => marks[index] === 0);
  }

  /** Declares what each chooser attends to; one chooser attends to all that is live, which needs no saying. */
  take(pick: Pick): void {
    if (this.choosers === 1) return;
    pick.none();
    for (let chooser = 0; chooser < this.choosers; chooser++) {
      const held = this.positions[chooser];
      for (let index = 0; index < this.counts[chooser]; index++)
        pick.take(held[index], held[index] + 1, chooser);
    }
  }
}

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);

/** The k-th largest of values[0..n) and how many that equal it are among the k largest. */
const leastKept = (
  values: Float32Array,
  n: number,
  k: number,
): { readonly value: number; readonly ties: number } => {
  const { bits, ties } = topKThreshold(values, n, k);
  asBits[0] = bits;
  return { value: asFloat[0], ties };
};
