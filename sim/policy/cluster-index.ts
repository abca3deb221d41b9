/**
 * Clusters of one KV head's keys, added stretch by stretch as the cache grows: centroids to rank them by, the tokens of
 * each, and the means of their values. What ClusterKV and RetroInfer retrieve by.
 */
import { dotRows } from '../engine/simd.ts';
import { assignNear, centre, evenStarts, kMeans, membersOf, moveToMeans, type RowSet } from './k-means.ts';
import type { HeadRows, Work, World } from './policy.ts';

export interface ClusterOptions {
  readonly clusters: number;
  readonly iterations: number;
  /** Stretches that are clustered each for itself before the last round, which is over all; 1 = everything at once. */
  readonly segments: number;
  /** Takes the mean key off before clustering, so that directions spread. */
  readonly centred: boolean;
}

/** Clusters equal segments apart, then every row once more among the centroids of all segments. */
const clusterSegments = (source: RowSet, { clusters, iterations, segments }: ClusterOptions) => {
  const { channels } = source;
  const perSegment = clusters / segments;
  const rounds = segments > 1 ? iterations - 1 : iterations;
  const tokens = Math.floor(source.count / segments);
  const rows = new Float32Array(clusters * channels);
  // Rows past the last whole segment start from the last cluster.
  const labels = new Int32Array(source.count).fill(clusters - 1);
  for (let segment = 0; segment < segments; segment++) {
    const from = segment * tokens;
    const part = {
      rows: source.rows.subarray(from * channels, (from + tokens) * channels),
      count: tokens,
      channels,
    };
    const found = kMeans(part, evenStarts(tokens, perSegment), rounds, 'cosine');
    rows.set(found.centroids.rows, segment * perSegment * channels);
    found.labels.forEach((label, i) => {
      labels[from + i] = segment * perSegment + label;
    });
  }
  const centroids = { rows, count: clusters, channels };
  if (segments > 1) {
    assignNear(source, centroids, 'cosine', labels);
    moveToMeans(source, labels, centroids);
  }
  return { centroids, labels };
};

export class ClusterIndex {
  clusters = 0;
  /** Keys from `from` on are clustered up to `to`. */
  readonly from: number;
  to: number;
  /** Row-major [clusters, headDim]: mean keys and, where there are values, mean values. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly sizes: Float32Array;
  private readonly starts: Int32Array;
  private readonly members: Int32Array;
  private readonly headDim: number;

  constructor(maxTokens: number, maxClusters: number, headDim: number, from: number) {
    this.headDim = headDim;
    this.from = from;
    this.to = from;
    this.keys = new Float32Array(maxClusters * headDim);
    this.values = new Float32Array(maxClusters * headDim);
    this.sizes = new Float32Array(maxClusters);
    this.starts = new Int32Array(maxClusters + 1);
    this.members = new Int32Array(maxTokens);
  }

  /** Clusters tokens [to, end) of the head and appends them to the index. */
  add({ keys, values }: HeadRows, end: number, options: ClusterOptions): void {
    const { headDim: channels, to: from, clusters: first } = this;
    const rowsOf = (rows: Float32Array): RowSet => ({
      rows: rows.subarray(from * channels, end * channels),
      count: end - from,
      channels,
    });
    const raw = rowsOf(keys);
    const centred = options.centred ? centre(raw) : null;
    const { centroids, labels } = clusterSegments(centred?.source ?? raw, options);
    const { starts, members } = membersOf(labels, options.clusters);
    for (let k = 0; k < options.clusters; k++) {
      this.sizes[first + k] = starts[k + 1] - starts[k];
      this.starts[first + k + 1] = from - this.from + starts[k + 1];
      for (let c = 0; c < channels; c++)
        this.keys[(first + k) * channels + c] = centroids.rows[k * channels + c] + (centred?.mean[c] ?? 0);
    }
    for (let i = 0; i < members.length; i++) this.members[from - this.from + i] = from + members[i];
    if (values !== null) {
      const means = this.values.subarray(first * channels, (first + options.clusters) * channels);
      moveToMeans(rowsOf(values), labels, { rows: means, count: options.clusters, channels });
    }
    this.clusters += options.clusters;
    this.to = end;
  }

  /** Tokens of a cluster, ascending. */
  tokensOf(cluster: number): Int32Array {
    return this.members.subarray(this.starts[cluster], this.starts[cluster + 1]);
  }

  /**
   * Lays out the tokens of clusters from `first` on one cluster after the other, each from the beginning of a page, and
   * writes each token's slot. Returns the first free slot; `next` = the one before.
   */
  layOut(slots: Int32Array, first: number, next: number, pageTokens: number): number {
    let slot = next;
    for (let cluster = first; cluster < this.clusters; cluster++) {
      for (const token of this.tokensOf(cluster)) slots[token] = slot++;
      slot = Math.ceil(slot / pageTokens) * pageTokens;
    }
    return slot;
  }

  /** scale · q·centroid of `count` queries [count, headDim]: row-major [count, clusters]. */
  scoreInto(queries: Float32Array, count: number, out: Float32Array, scale = 1): void {
    const { keys, clusters, headDim } = this;
    const job = { queries, queryCount: count, rows: keys, rowCount: clusters, channels: headDim };
    dotRows({ ...job, out, stride: clusters, scale });
  }
}

/**
 * Rounds of k-means on `tokens` keys of one KV head: each a matrix product of all keys with all centroids, an arg max,
 * and one more pass over the keys for their sums.
 */
export const clusteringWork = (world: World, iterations: number, tokens: number, clusters: number): Work => ({
  index: 'k-means',
  readBytes: { hbm: 2 * iterations * tokens * world.kBytesPerToken },
  flops: iterations * tokens * (clusters + world.headDim),
  matrixFlops: 2 * iterations * tokens * clusters * world.headDim,
  kernels: 3 * iterations,
});

/** Products of a group's queries with all centroids, which are read once. */
export const rankingWork = (world: World, clusters: number): Work => ({
  index: 'centroids',
  readBytes: { hbm: clusters * world.kBytesPerToken },
  flops: 2 * world.headDim * clusters * world.groupSize,
  kernels: 1,
  call: { kernel: 'dot-score', counts: { count: clusters } },
});

const ID_BYTES = 4;

/** Ids of `tokens` tokens in clusters are listed and, where the tokens lie in DRAM, looked up in the table of slots. */
export const listingWork = (tokens: number, clusterTokens: number, inDram: boolean): Work => {
  const listed = ID_BYTES * tokens;
  const [reads, writes, kernels] = inDram ? [3, 2, 2] : [1, 1, 1];
  return {
    index: 'token-ids',
    readBytes: { hbm: reads * listed },
    writeBytes: { hbm: writes * listed },
    flops: 0,
    kernels,
    call: { kernel: 'token-ids', counts: { tokens }, shape: { clusterTokens, lookUp: inDram ? 1 : 0 } },
  };
};
