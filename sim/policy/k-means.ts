/**
 * Lloyd's k-means over rows, by cosine or by Euclidean distance, fast enough for 128K keys and thousands of clusters.
 * With many clusters a row is compared only with the ones nearest to its present one, from a first guess among 64 of
 * them: a greedy walk that Lloyd's own rounds carry on. k-means.test.ts holds the loss to per mille of the exact rounds.
 */
import { dotRows } from '../engine/simd.ts';
import { Ranking } from './ranking.ts';

export type Metric = 'cosine' | 'euclidean';

/** Row-major [count, channels]. */
export interface RowSet {
  readonly rows: Float32Array;
  readonly count: number;
  readonly channels: number;
}

/** Rows minus their mean, and the mean. */
export const centre = ({
  rows,
  count,
  channels,
}: RowSet): { readonly source: RowSet; readonly mean: Float64Array } => {
  const mean = new Float64Array(channels);
  for (let i = 0, at = 0; i < count; i++) for (let c = 0; c < channels; c++) mean[c] += rows[at++] / count;
  const out = new Float32Array(count * channels);
  for (let i = 0, at = 0; i < count; i++)
    for (let c = 0; c < channels; c++, at++) out[at] = rows[at] - mean[c];
  return { source: { rows: out, count, channels }, mean };
};

/** Row i belongs to cluster labels[i]; centroids are the means of their rows (an empty cluster keeps its last). */
export interface Clustering {
  readonly centroids: RowSet;
  readonly labels: Int32Array;
}

/** Clusters that a row is compared with, once there are more than that. */
const NEIGHBOURS = 64;
const TILE_ROWS = 256;
const TILE_TARGETS = 64;

/** What rows are multiplied with: the largest of row·target + offset is the nearest centroid. */
interface Targets extends RowSet {
  readonly offsets: Float32Array;
}

const targetsOf = ({ rows, count, channels }: RowSet, metric: Metric): Targets => {
  const targets = rows.slice(0, count * channels);
  const offsets = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (let at = i * channels; at < (i + 1) * channels; at++) square += targets[at] * targets[at];
    if (metric === 'euclidean') offsets[i] = -square / 2;
    else if (square > 0) {
      const inverse = 1 / Math.sqrt(square);
      for (let at = i * channels; at < (i + 1) * channels; at++) targets[at] *= inverse;
    }
  }
  return { rows: targets, count, channels, offsets };
};

/** Room for the products of a tile of rows with some targets. */
class Products {
  private table = new Float32Array(0);
  private best = new Float32Array(0);
  private label = new Int32Array(0);

  /** Position in `targets` of the best one for each row [from, to), the first among equals; valid until the next call. */
  nearest({ rows, channels }: RowSet, from: number, to: number, targets: Targets): Int32Array {
    const n = to - from;
    if (this.table.length < n * targets.count) this.table = new Float32Array(n * targets.count);
    if (this.best.length < n) this.best = new Float32Array(n);
    if (this.label.length < n) this.label = new Int32Array(n);
    const { table, best, label } = this;
    dotRows({
      queries: targets.rows,
      queryCount: targets.count,
      rows: rows.subarray(from * channels, to * channels),
      rowCount: n,
      channels,
      out: table,
      stride: n,
      scale: 1,
    });
    best.fill(Number.NEGATIVE_INFINITY, 0, n);
    for (let t = 0, at = 0; t < targets.count; t++) {
      const offset = targets.offsets[t];
      for (let i = 0; i < n; i++, at++) {
        const score = table[at] + offset;
        if (score > best[i]) {
          best[i] = score;
          label[i] = t;
        }
      }
    }
    return label;
  }
}

/** Labels each row with the nearest of all centroids. */
export const assignAll = (source: RowSet, centroids: RowSet, metric: Metric, labels: Int32Array): void => {
  const targets = targetsOf(centroids, metric);
  const products = new Products();
  for (let from = 0; from < source.count; from += TILE_ROWS) {
    const to = Math.min(source.count, from + TILE_ROWS);
    labels.set(products.nearest(source, from, to, targets).subarray(0, to - from), from);
  }
};

/** Rows by cluster: those of cluster c are members[starts[c] .. starts[c + 1]), ascending. */
export interface Members {
  readonly starts: Int32Array;
  readonly members: Int32Array;
}

export const membersOf = (labels: Int32Array, clusters: number): Members => {
  const starts = new Int32Array(clusters + 1);
  for (const label of labels) starts[label + 1]++;
  for (let c = 0; c < clusters; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  const members = new Int32Array(labels.length);
  labels.forEach((label, row) => {
    members[next[label]++] = row;
  });
  return { starts, members };
};

const gather = ({ rows, channels }: RowSet, positions: Int32Array, out: Float32Array): void => {
  for (let i = 0; i < positions.length; i++)
    out.set(rows.subarray(positions[i] * channels, (positions[i] + 1) * channels), i * channels);
};

/** Labels each row with the nearest among the NEIGHBOURS centroids that lie nearest to its present one. */
export const assignNear = (source: RowSet, centroids: RowSet, metric: Metric, labels: Int32Array): void => {
  const { count, channels } = centroids;
  if (count <= NEIGHBOURS) {
    assignAll(source, centroids, metric, labels);
    return;
  }
  const targets = targetsOf(centroids, metric);
  const { starts, members } = membersOf(labels, count);
  const products = new Products();
  const ranking = new Ranking(count);
  const scores = new Float32Array(TILE_TARGETS * count);
  const near = { rows: new Float32Array(NEIGHBOURS * channels), count: NEIGHBOURS, channels };
  const offsets = new Float32Array(NEIGHBOURS);
  const tile = { rows: new Float32Array(TILE_ROWS * channels), count: TILE_ROWS, channels };
  for (let c = 0; c < count; c++) {
    const slot = c % TILE_TARGETS;
    // A tile of centroids at a time, since every call reads all of them.
    if (slot === 0) productsOf(targets, c, Math.min(count, c + TILE_TARGETS), scores);
    if (starts[c] === starts[c + 1]) continue;
    ranking.best(scores.subarray(slot * count, (slot + 1) * count), 0, count, NEIGHBOURS);
    const neighbours = ranking.positions.subarray(0, NEIGHBOURS);
    gather(targets, neighbours, near.rows);
    for (let i = 0; i < NEIGHBOURS; i++) offsets[i] = targets.offsets[neighbours[i]];
    for (let from = starts[c]; from < starts[c + 1]; from += TILE_ROWS) {
      const own = members.subarray(from, Math.min(starts[c + 1], from + TILE_ROWS));
      gather(source, own, tile.rows);
      const nearest = products.nearest(tile, 0, own.length, { ...near, offsets });
      for (let i = 0; i < own.length; i++) labels[own[i]] = neighbours[nearest[i]];
    }
  }
};

/** How near all targets lie to targets [from, to): row-major [to - from, count]. */
const productsOf = (targets: Targets, from: number, to: number, out: Float32Array): void => {
  const { rows, count, channels, offsets } = targets;
  const queries = rows.subarray(from * channels, to * channels);
  dotRows({ queries, queryCount: to - from, rows, rowCount: count, channels, out, stride: count, scale: 1 });
  for (let row = 0, at = 0; row < to - from; row++) for (let i = 0; i < count; i++) out[at++] += offsets[i];
};

/** Moves each centroid to the mean of its rows. */
export const moveToMeans = (source: RowSet, labels: Int32Array, centroids: RowSet): void => {
  const { channels } = source;
  const sums = new Float64Array(centroids.count * channels);
  const sizes = new Int32Array(centroids.count);
  for (let i = 0, at = 0; i < source.count; i++) {
    sizes[labels[i]]++;
    const sum = labels[i] * channels;
    for (let c = 0; c < channels; c++) sums[sum + c] += source.rows[at++];
  }
  for (let k = 0; k < centroids.count; k++) {
    if (sizes[k] === 0) continue;
    for (let at = k * channels; at < (k + 1) * channels; at++) centroids.rows[at] = sums[at] / sizes[k];
  }
};

/** Every count/PIVOTS-th centroid, and its position. */
const pivotsOf = (centroids: RowSet): { readonly pivots: RowSet; readonly positions: Int32Array } => {
  const count = Math.min(centroids.count, NEIGHBOURS);
  const positions = Int32Array.from({ length: count }, (_, i) => Math.floor((i * centroids.count) / count));
  const rows = new Float32Array(count * centroids.channels);
  gather(centroids, positions, rows);
  return { pivots: { rows, count, channels: centroids.channels }, positions };
};

/** Rounds of assigning and moving, from centroids at the rows `starts`; ends early when a round changes nothing. */
export const kMeans = (
  source: RowSet,
  starts: Int32Array,
  iterations: number,
  metric: Metric,
): Clustering => {
  const { channels } = source;
  const centroids = { rows: new Float32Array(starts.length * channels), count: starts.length, channels };
  gather(source, starts, centroids.rows);
  const labels = new Int32Array(source.count);
  const { pivots, positions } = pivotsOf(centroids);
  assignAll(source, pivots, metric, labels);
  for (let i = 0; i < labels.length; i++) labels[i] = positions[labels[i]];
  const before = new Int32Array(source.count);
  for (let round = 0; round < iterations; round++) {
    before.set(labels);
    assignNear(source, centroids, metric, labels);
    moveToMeans(source, labels, centroids);
    if (round > 0 && labels.every((label, i) => label === before[i])) break;
  }
  return { centroids, labels };
};

/** `count` positions at even distances over `rows` rows, each in the middle of its stretch. */
export const evenStarts = (rows: number, count: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * rows) / count));
