/**
 * Product quantisation of one KV head's keys: each key is cut into subspaces and stored as the number of its nearest
 * centroid in each; a query's products with all centroids then rank keys by table look-ups (asymmetric distances).
 * Jégou et al., doi:10.1109/TPAMI.2010.57.
 */
import { dotRows } from '../engine/simd.ts';
import { assignAll, evenStarts, kMeans, type RowSet } from './k-means.ts';

/** More rows a centroid than this teach k-means nothing (Faiss' max_points_per_centroid, facebookresearch/faiss). */
const ROWS_PER_CENTROID = 256;

export class PqIndex {
  readonly subspaces: number;
  readonly centroids: number;
  /** Keys from `from` on have codes up to `to`. */
  readonly from: number;
  to: number;
  private readonly headDim: number;
  /** Row-major [tokens, subspaces]. */
  private readonly codes: Uint8Array;
  /** Centroids of each subspace, once trained. */
  readonly books: RowSet[] = [];

  /** `bits` is at most 8; `subspaces` divides `headDim`. */
  constructor(maxTokens: number, headDim: number, subspaces: number, bits: number, from: number) {
    this.headDim = headDim;
    this.subspaces = subspaces;
    this.centroids = 2 ** bits;
    this.from = from;
    this.to = from;
    this.codes = new Uint8Array(maxTokens * subspaces);
  }

  /** Learns the centroids from keys [from, end) and gives these their codes. */
  train(keys: Float32Array, end: number, iterations: number): void {
    const { from, centroids, subspaces } = this;
    const rows = Math.min(end - from, ROWS_PER_CENTROID * centroids);
    const taught = evenStarts(end - from, rows).map((row) => row + from);
    for (let s = 0; s < subspaces; s++) {
      const source = this.partOf(keys, taught, s);
      this.books.push(kMeans(source, evenStarts(rows, centroids), iterations, 'euclidean').centroids);
    }
    this.encode(keys, end);
  }

  /** Gives keys [to, end) the codes of their nearest centroids, which stay as they were learnt. */
  encode(keys: Float32Array, end: number): void {
    const { subspaces, to } = this;
    if (end <= to) return;
    const tokens = Int32Array.from({ length: end - to }, (_, i) => to + i);
    const labels = new Int32Array(end - to);
    this.books.forEach((book, s) => {
      assignAll(this.partOf(keys, tokens, s), book, 'euclidean', labels);
      for (let i = 0; i < labels.length; i++) this.codes[(to + i) * subspaces + s] = labels[i];
    });
    this.to = end;
  }

  /** Estimated scale · q·k of `count` queries [count, headDim] for keys [from, end): row-major [count, stride]. */
  scoreInto(
    queries: Float32Array,
    count: number,
    end: number,
    out: Float32Array,
    stride: number,
    scale: number,
  ): void {
    const { from, subspaces, codes } = this;
    const tables = this.books.map((book, s) => this.tableOf(queries, count, book, s, scale));
    const n = end - from;
    for (let q = 0; q < count; q++) {
      const row = out.subarray(q * stride, q * stride + n).fill(0);
      tables.forEach((table, s) => {
        const products = table.subarray(q * this.centroids, (q + 1) * this.centroids);
        for (let i = 0, at = from * subspaces + s; i < n; i++, at += subspaces) row[i] += products[codes[at]];
      });
    }
  }

  /** Products of the queries' part in a subspace with its centroids. */
  private tableOf(
    queries: Float32Array,
    count: number,
    book: RowSet,
    s: number,
    scale: number,
  ): Float32Array {
    const all = Int32Array.from({ length: count }, (_, q) => q);
    const table = new Float32Array(count * book.count);
    dotRows({
      queries: this.partOf(queries, all, s).rows,
      queryCount: count,
      rows: book.rows,
      rowCount: book.count,
      channels: book.channels,
      out: table,
      stride: book.count,
      scale,
    });
    return table;
  }

  /** The channels of subspace s of the listed rows. */
  private partOf(rows: Float32Array, listed: Int32Array, s: number): RowSet {
    const { headDim } = this;
    const channels = headDim / this.subspaces;
    const part = new Float32Array(listed.length * channels);
    for (let i = 0; i < listed.length; i++) {
      const at = listed[i] * headDim + s * channels;
      part.set(rows.subarray(at, at + channels), i * channels);
    }
    return { rows: part, count: listed.length, channels };
  }
}
