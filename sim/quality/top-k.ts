/**
 * Top-k over non-negative float32 numbers (attention probabilities, scores) by histogram: O(n), no sort.
 * Non-negative IEEE floats order like their bit patterns, so two passes of 16 bits find the k-th largest exactly.
 */

const histogram = new Uint32Array(65536);

/** Counts entries by the upper half of their bits; returns the highest bin in use. */
const fillUpper = (words: Uint32Array, n: number): number => {
  let last = 0;
  for (let i = 0; i < n; i++) {
    const bin = words[i] >>> 16;
    histogram[bin]++;
    if (bin > last) last = bin;
  }
  return last;
};

/** The bin, going down from `last`, in which the k-th entry lies, and how many entries lie above it. */
const kthBin = (k: number, last: number): { readonly bin: number; readonly above: number } => {
  let above = 0;
  let bin = last;
  for (; bin > 0 && above + histogram[bin] < k; bin--) above += histogram[bin];
  return { bin, above };
};

/**
 * Threshold of the k largest of values[0..n): `bits` = bit pattern of the k-th largest, `ties` = how many entries
 * that equal it belong to the top k. Requires 1 <= k <= n and no negative value.
 */
export const topKThreshold = (
  values: Float32Array,
  n: number,
  k: number,
): { readonly bits: number; readonly ties: number } => {
  const words = new Uint32Array(values.buffer, values.byteOffset, n);
  const last = fillUpper(words, n);
  const high = kthBin(k, last);
  histogram.fill(0, 0, last + 1);
  for (let i = 0; i < n; i++) if (words[i] >>> 16 === high.bin) histogram[words[i] & 0xffff]++;
  const low = kthBin(k - high.above, 65535);
  histogram.fill(0);
  return { bits: high.bin * 65536 + low.bin, ties: k - high.above - low.above };
};

/** Positions of the k largest of values[0..n), ascending by position; ties go to the earlier position. */
export const topKPositions = (values: Float32Array, n: number, k: number, out: Int32Array): number => {
  if (k <= 0) return 0;
  if (k >= n) {
    for (let i = 0; i < n; i++) out[i] = i;
    return n;
  }
  const words = new Uint32Array(values.buffer, values.byteOffset, n);
  const { bits, ties } = topKThreshold(values, n, k);
  let count = 0;
  let left = ties;
  for (let i = 0; i < n; i++) {
    const word = words[i];
    if (word > bits || (word === bits && left-- > 0)) out[count++] = i;
  }
  return count;
};
