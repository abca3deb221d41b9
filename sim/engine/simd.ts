/**
 * Bulk arithmetic on float32 rows in WebAssembly SIMD: products with queries, softmax, weighted sums, channel bounds.
 * The caller's arrays stay where they are: tiles of them are copied through one small scratch memory, so any length
 * works in bounded memory, and the copy is a few per cent of the arithmetic. Same bits in every engine; without SIMD it
 * throws rather than compute other numbers. Not reentrant, one thread at a time (each worker has its own).
 */
import { LANES } from './simd-kernels.ts';
import {
  ENTRY_FLOATS,
  loadEntries,
  loadRows,
  paddedOf,
  QUERY_FLOATS,
  ROW_FLOATS,
  roundUp,
  useScratch,
} from './simd-scratch.ts';

/** How a block of rows and queries goes through the scratch memory. */
const tileOf = (padded: number, queries: number) => {
  const queriesAtATime = Math.max(1, Math.min(queries, Math.floor(QUERY_FLOATS / (2 * padded))));
  const rows = Math.min(Math.floor(ROW_FLOATS / padded), Math.floor(ENTRY_FLOATS / queriesAtATime));
  return { queriesAtATime, rows: rows - (rows % LANES) };
};

export interface RowProducts {
  /** Row-major [queryCount, channels]. */
  readonly queries: Float32Array;
  readonly queryCount: number;
  /** Row-major [at least rowCount, channels]. */
  readonly rows: Float32Array;
  readonly rowCount: number;
  readonly channels: number;
  /** Row-major [queryCount, stride]; the first rowCount entries of each row are written. */
  readonly out: Float32Array;
  readonly stride: number;
  readonly scale: number;
}

/** out[q][i] = scale · queries[q]·rows[i]; float32 sums, relative error about channels · 6e-8 of Σ|q·k|. */
export const dotRows = (job: RowProducts): void => {
  const { kernels, rows, queries, entries } = useScratch();
  const { channels, rowCount, queryCount, out, stride, scale } = job;
  const padded = paddedOf(channels);
  const tile = tileOf(padded, queryCount);
  for (let first = 0; first < queryCount; first += tile.queriesAtATime) {
    const last = Math.min(queryCount, first + tile.queriesAtATime);
    loadRows(queries, job.queries, channels, padded, first, last);
    for (let from = 0; from < rowCount; from += tile.rows) {
      const to = Math.min(rowCount, from + tile.rows);
      loadRows(rows, job.rows, channels, padded, from, to);
      const count = roundUp(to - from, LANES);
      for (let q = first; q < last; q++) {
        const query = queries.byteOffset + 4 * padded * (q - first);
        const entry = (q - first) * tile.rows;
        kernels.dot(rows.byteOffset, 4 * padded, count, query, entries.byteOffset + 4 * entry, scale);
        out.set(entries.subarray(entry, entry + to - from), q * stride + from);
      }
    }
  }
};

export interface WeightedRows {
  /** Row-major [queryCount, stride]: the weight of row i for query q at q · stride + i. */
  readonly weights: Float32Array;
  readonly queryCount: number;
  readonly stride: number;
  /** Row-major [at least rowCount, channels]. */
  readonly rows: Float32Array;
  readonly rowCount: number;
  readonly channels: number;
  /** Row-major [queryCount, channels]; added to. */
  readonly out: Float64Array;
}

/** Rows at `positions` (all rows when null), one tile of [from, to) of them. */
const loadListed = (
  dst: Float32Array,
  { rows, channels }: WeightedRows,
  padded: number,
  positions: Int32Array | null,
  from: number,
  to: number,
): void => {
  if (positions === null) {
    loadRows(dst, rows, channels, padded, from, to);
    return;
  }
  if (channels !== padded) dst.fill(0, 0, (to - from) * padded);
  for (let i = from; i < to; ) {
    // Selections come in runs (pages, windows): a run is copied in one piece.
    let end = i + 1;
    if (channels === padded) while (end < to && positions[end] === positions[end - 1] + 1) end++;
    const row = positions[i];
    dst.set(rows.subarray(row * channels, (row + end - i) * channels), (i - from) * padded);
    i = end;
  }
};

const loadWeights = (
  dst: Float32Array,
  at: number,
  weights: Float32Array,
  row: number,
  positions: Int32Array | null,
  from: number,
  to: number,
): void => {
  if (positions === null) dst.set(weights.subarray(row + from, row + to), at);
  else for (let i = from; i < to; i++) dst[at + i - from] = weights[row + positions[i]];
};

const addSums = (
  { out, channels }: WeightedRows,
  sums: Float64Array,
  padded: number,
  first: number,
  last: number,
): void => {
  for (let q = first; q < last; q++)
    for (let c = 0; c < channels; c++) out[q * channels + c] += sums[(q - first) * padded + c];
};

/**
 * out[q] += Σ weights[q][i] · rows[i], over all rows or, with `positions`, over the rowCount rows that it lists.
 * Float32 within a tile of at most 4096 rows, float64 across tiles.
 */
export const addWeightedRows = (job: WeightedRows, positions: Int32Array | null = null): void => {
  const { kernels, rows, sums, entries } = useScratch();
  const { channels, rowCount, queryCount, weights, stride } = job;
  const padded = paddedOf(channels);
  const tile = tileOf(padded, queryCount);
  const rowBytes = 4 * padded;
  const entryBytes = 4 * tile.rows;
  for (let first = 0; first < queryCount; first += tile.queriesAtATime) {
    const last = Math.min(queryCount, first + tile.queriesAtATime);
    sums.fill(0, 0, (last - first) * padded);
    for (let from = 0; from < rowCount; from += tile.rows) {
      const to = Math.min(rowCount, from + tile.rows);
      loadListed(rows, job, padded, positions, from, to);
      for (let q = first; q < last; q++)
        loadWeights(entries, (q - first) * tile.rows, weights, q * stride, positions, from, to);
      for (let q = 0; q < last - first; q += 2) {
        const add = q + 1 < last - first ? kernels.add2 : kernels.add1;
        const weight = entries.byteOffset + q * entryBytes;
        add(rows.byteOffset, rowBytes, to - from, weight, entryBytes, sums.byteOffset + 2 * q * rowBytes);
      }
    }
    addSums(job, sums, padded, first, last);
  }
};

/** The largest of row[0..n); -Infinity when n is 0. */
export const largestOf = (row: Float32Array, n: number): number => {
  const { kernels, entries } = useScratch();
  let largest = Number.NEGATIVE_INFINITY;
  for (let from = 0; from < n; from += ENTRY_FLOATS) {
    const to = Math.min(n, from + ENTRY_FLOATS);
    const count = loadEntries(entries, row, from, to, Number.NEGATIVE_INFINITY);
    largest = Math.max(largest, kernels.largest(entries.byteOffset, count));
  }
  return largest;
};

/** row[i] = e^(row[i] - shift) for i < n (0 below e^-87, e^88 at most; relative error 1e-6); the sum of the results. */
export const exponentiate = (row: Float32Array, n: number, shift: number): number => {
  const { kernels, entries } = useScratch();
  let sum = 0;
  for (let from = 0; from < n; from += ENTRY_FLOATS) {
    const to = Math.min(n, from + ENTRY_FLOATS);
    const count = loadEntries(entries, row, from, to, Number.NEGATIVE_INFINITY);
    sum += kernels.exponentials(entries.byteOffset, count, shift);
    row.set(entries.subarray(0, to - from), from);
  }
  return sum;
};

/** row[i] *= factor for i < n. */
export const scaleEntries = (row: Float32Array, n: number, factor: number): void => {
  const { kernels, entries } = useScratch();
  for (let from = 0; from < n; from += ENTRY_FLOATS) {
    const to = Math.min(n, from + ENTRY_FLOATS);
    const count = loadEntries(entries, row, from, to, 0);
    kernels.scale(entries.byteOffset, count, factor);
    row.set(entries.subarray(0, to - from), from);
  }
};

const mergeBounds = (
  found: Float32Array,
  channels: number,
  padded: number,
  out: Float32Array,
  row: number,
  isFirst: boolean,
): void => {
  for (let c = 0; c < channels; c++) {
    const most = found[c];
    const least = found[padded + c];
    out[row + c] = isFirst ? most : Math.max(out[row + c], most);
    out[row + channels + c] = isFirst ? least : Math.min(out[row + channels + c], least);
  }
};

/**
 * Channel-wise maxima and minima of groups of `groupRows` rows, for the groups that rows [from, to) lie in; `from` is
 * the start of a group. Row-major [groups, 2 · channels]: maxima, then minima.
 */
export const boundsInto = (
  source: Float32Array,
  channels: number,
  groupRows: number,
  from: number,
  to: number,
  out: Float32Array,
): void => {
  const { kernels, rows, entries } = useScratch();
  const padded = paddedOf(channels);
  const tileRows = Math.floor(ROW_FLOATS / padded);
  for (let start = from; start < to; start += groupRows) {
    const end = Math.min(to, start + groupRows);
    const row = 2 * channels * (start / groupRows);
    for (let at = start; at < end; at += tileRows) {
      const last = Math.min(end, at + tileRows);
      loadRows(rows, source, channels, padded, at, last);
      kernels.bounds(rows.byteOffset, 4 * padded, last - at, entries.byteOffset);
      mergeBounds(entries, channels, padded, out, row, at === start);
    }
  }
};
