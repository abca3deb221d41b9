/**
 * One row of attention probabilities grouped by size, so that questions about its largest entries cost little each: the
 * k-th largest, the mass of the k largest (what the best policy of that size would reach), and how many entries a given
 * mass needs at least.
 */
import { binOf, type Threshold, thresholdWithin, UPPER_BINS, UPPER_SHIFT, wordsOf } from './top-k.ts';

export class RankedRow {
  private readonly words: Uint32Array;
  /** The same entries as numbers. */
  private readonly values: Float32Array;
  /** Entries above each group, which is also where the group starts in `words`. */
  private readonly starts = new Int32Array(UPPER_BINS);
  private readonly counts = new Int32Array(UPPER_BINS);
  private readonly masses = new Float64Array(UPPER_BINS);

  constructor(capacity: number) {
    this.values = new Float32Array(capacity);
    this.words = wordsOf(this.values, capacity);
  }

  /** Takes values[0..n), none of them negative. */
  rank(values: Float32Array, n: number): void {
    const { words, starts, counts, masses } = this;
    const source = wordsOf(values, n);
    counts.fill(0);
    masses.fill(0);
    for (let i = 0; i < n; i++) {
      const bin = source[i] >>> UPPER_SHIFT;
      counts[bin]++;
      masses[bin] += values[i];
    }
    for (let bin = UPPER_BINS - 1, above = 0; bin >= 0; bin--) {
      starts[bin] = above;
      above += counts[bin];
    }
    for (let i = 0; i < n; i++) {
      const word = source[i];
      words[starts[word >>> UPPER_SHIFT]++] = word;
    }
    for (let bin = 0; bin < UPPER_BINS; bin++) starts[bin] -= counts[bin];
  }

  /** As `topKThreshold`, for 1 <= k <= n. */
  threshold(k: number): Threshold {
    const { bin, above } = binOf(this.counts, k);
    const from = this.starts[bin];
    return thresholdWithin(this.words, from, from + this.counts[bin], bin, k - above);
  }

  /** Sum of the k largest, for 1 <= k <= n. */
  bestMass(k: number): number {
    const { bits, ties } = this.threshold(k);
    const top = bits >>> UPPER_SHIFT;
    let mass = this.massAbove(top);
    let tied = 0;
    for (let i = this.starts[top], end = i + this.counts[top]; i < end; i++) {
      if (this.words[i] > bits) mass += this.values[i];
      else if (this.words[i] === bits) tied = this.values[i];
    }
    return mass + ties * tied;
  }

  /** The least number of entries whose sum reaches `share` of the whole row's. */
  entriesFor(share: number): number {
    const wanted = share * this.massAbove(-1);
    let bin = UPPER_BINS - 1;
    let mass = 0;
    while (bin > 0 && mass + this.masses[bin] < wanted) mass += this.masses[bin--];
    const from = this.starts[bin];
    const group = this.values.slice(from, from + this.counts[bin]).sort();
    let count = group.length;
    while (count > 0 && mass < wanted) mass += group[--count];
    return from + group.length - count;
  }

  private massAbove(top: number): number {
    let mass = 0;
    for (let bin = UPPER_BINS - 1; bin > top; bin--) mass += this.masses[bin];
    return mass;
  }
}
