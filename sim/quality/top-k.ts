/**
 * Top-k over non-negative float32 numbers (attention probabilities, scores) without a sort. Non-negative IEEE floats
 * order like their bit patterns, so three counting passes (11, 10 and 10 bits) find the k-th largest exactly; a row that
 * is asked for several k is grouped by its upper bits once (ranked-row.ts).
 */

export const UPPER_SHIFT = 20;
export const UPPER_BINS = 2048;
const MIDDLE_SHIFT = 10;
const LOWER_BINS = 1024;
const LOWER_MASK = LOWER_BINS - 1;

const upper = new Int32Array(UPPER_BINS);
const lower = new Int32Array(LOWER_BINS);

/** The k-th largest of a set: its bits, and how many entries that equal it belong to the top k. */
export interface Threshold {
  readonly bits: number;
  readonly ties: number;
}

/** The bin in which the k-th entry from above lies, and how many entries lie above that bin. */
export const binOf = (counts: Int32Array, k: number): { readonly bin: number; readonly above: number } => {
  let above = 0;
  let bin = counts.length - 1;
  for (; bin > 0 && above + counts[bin] < k; bin--) above += counts[bin];
  return { bin, above };
};

/** Finishes the search among words[from..to): those with upper bits `top`, of which the k-th largest is sought. */
export const thresholdWithin = (
  words: Uint32Array,
  from: number,
  to: number,
  top: number,
  k: number,
): Threshold => {
  lower.fill(0);
  for (let i = from; i < to; i++) {
    const word = words[i];
    if (word >>> UPPER_SHIFT === top) lower[(word >>> MIDDLE_SHIFT) & LOWER_MASK]++;
  }
  const middle = binOf(lower, k);
  const prefix = (top << (UPPER_SHIFT - MIDDLE_SHIFT)) | middle.bin;
  lower.fill(0);
  for (let i = from; i < to; i++) {
    const word = words[i];
    if (word >>> MIDDLE_SHIFT === prefix) lower[word & LOWER_MASK]++;
  }
  const last = binOf(lower, k - middle.above);
  return { bits: prefix * LOWER_BINS + last.bin, ties: k - middle.above - last.above };
};

/** The bit patterns of values[0..n): a view. */
export const wordsOf = (values: Float32Array, n: number): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, n);

/**
 * Threshold of the k largest of values[0..n): `bits` = bit pattern of the k-th largest, `ties` = how many entries
 * that equal it belong to the top k. Requires 1 <= k <= n and no negative value.
 */
export const topKThreshold = (values: Float32Array, n: number, k: number): Threshold => {
  const words = wordsOf(values, n);
  upper.fill(0);
  for (let i = 0; i < n; i++) upper[words[i] >>> UPPER_SHIFT]++;
  const { bin, above } = binOf(upper, k);
  return thresholdWithin(words, 0, n, bin, k - above);
};

/** Positions of the k largest of values[0..n), ascending by position; ties go to the earlier position. */
export const topKPositions = (values: Float32Array, n: number, k: number, out: Int32Array): number => {
  if (k <= 0) return 0;
  if (k >= n) {
    for (let i = 0; i < n; i++) out[i] = i;
    return n;
  }
  const words = wordsOf(values, n);
  const { bits, ties } = topKThreshold(values, n, k);
  let count = 0;
  let left = ties;
  for (let i = 0; i < n; i++) {
    const word = words[i];
    if (word > bits || (word === bits && left-- > 0)) out[count++] = i;
  }
  return count;
};
