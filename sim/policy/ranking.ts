/**
 * The best k of n scores of either sign. Top-k over float bit patterns needs numbers that are not negative, so scores
 * are shifted by the least of them, which keeps their order.
 */
import { topKPositions } from '../quality/top-k.ts';

export class Ranking {
  /** Positions of the best, ascending; valid up to the number that `best` returned. */
  readonly positions: Int32Array;
  private readonly shifted: Float32Array;

  constructor(capacity: number) {
    this.positions = new Int32Array(capacity);
    this.shifted = new Float32Array(capacity);
  }

  /** Finds the k highest of scores[from..to), ties to the earlier; returns their number and fills `positions`. */
  best(scores: Float32Array, from: number, to: number, k: number): number {
    const { shifted, positions } = this;
    let least = Infinity;
    for (let i = from; i < to; i++) if (scores[i] < least) least = scores[i];
    for (let i = from; i < to; i++) shifted[i - from] = scores[i] - least;
    const count = topKPositions(shifted, Math.max(0, to - from), k, positions);
    if (from > 0) for (let i = 0; i < count; i++) positions[i] += from;
    return count;
  }
}

/** All positions of `scores` by falling score, earlier ones first among equals. */
export const descending = (scores: Float32Array): Int32Array =>
  Int32Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);

/** How scores of a group's query heads become one, element by element. */
export type Reducer = 'max' | 'mean' | 'sum';

/** Reduces the rows of scores [rows, stride] over entries 0 .. n-1 into `out`. */
export const reduceRows = (
  scores: Float32Array,
  rows: number,
  stride: number,
  n: number,
  how: Reducer,
  out: Float32Array,
): void => {
  const factor = how === 'mean' ? 1 / rows : 1;
  for (let i = 0; i < n; i++) out[i] = scores[i] * factor;
  for (let row = 1; row < rows; row++) {
    const at = row * stride;
    if (how === 'max') {
      for (let i = 0; i < n; i++) if (scores[at + i] > out[i]) out[i] = scores[at + i];
    } else for (let i = 0; i < n; i++) out[i] += scores[at + i] * factor;
  }
};
