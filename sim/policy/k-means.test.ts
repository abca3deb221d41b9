/** K-means against Lloyd's rounds in plain loops, and the loss of looking at near centroids only. */
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { assignAll, evenStarts, kMeans, type Metric, membersOf, moveToMeans } from './k-means.ts';

const channels = 16;

/** Rows around `centres` random directions of their own sizes. */
const clouds = (count: number, centres: number, spread: number): Float32Array => {
  const random = createRandom(42, 'clouds');
  const means = new Float32Array(centres * channels);
  random.fillNormal(means);
  return Float32Array.from({ length: count * channels }, (_, at) => {
    const cloud = Math.floor(at / channels) % centres;
    return means[cloud * channels + (at % channels)] * (1 + (cloud % 3)) + spread * random.normal();
  });
};

/** Cosine, or minus the squared distance. */
const closeness = (x: ArrayLike<number>, c: ArrayLike<number>, metric: Metric): number => {
  let [dot, xx, cc, apart] = [0, 0, 0, 0];
  for (let i = 0; i < channels; i++) {
    dot += x[i] * c[i];
    xx += x[i] * x[i];
    cc += c[i] * c[i];
    apart += (x[i] - c[i]) ** 2;
  }
  return metric === 'cosine' ? dot / Math.sqrt(xx * cc) : -apart;
};

const rowOf = (rows: Float32Array, i: number) => rows.subarray(i * channels, (i + 1) * channels);

const lloyd = (rows: Float32Array, starts: Int32Array, rounds: number, metric: Metric) => {
  const count = rows.length / channels;
  const centroids = [...starts].map((start) => Float64Array.from(rowOf(rows, start)));
  let labels: number[] = [];
  for (let round = 0; round < rounds; round++) {
    labels = Array.from({ length: count }, (_, i) => {
      const scores = centroids.map((c) => closeness(rowOf(rows, i), c, metric));
      return scores.indexOf(Math.max(...scores));
    });
    centroids.forEach((centroid, k) => {
      const own = labels.flatMap((label, i) => (label === k ? [i] : []));
      if (own.length === 0) return;
      for (let c = 0; c < channels; c++)
        centroid[c] = own.reduce((sum, i) => sum + rows[i * channels + c], 0) / own.length;
    });
  }
  return { labels, centroids };
};

describe.each(['cosine', 'euclidean'] as const)('by %s', (metric) => {
  test('few clusters are those of the plain rounds', () => {
    const rows = clouds(700, 12, 0.6);
    const starts = evenStarts(700, 20);
    const found = kMeans({ rows, count: 700, channels }, starts, 6, metric);
    const wanted = lloyd(rows, starts, 6, metric);
    expect([...found.labels]).toEqual(wanted.labels);
    wanted.centroids.forEach((centroid, k) => {
      for (let c = 0; c < channels; c++)
        expect(found.centroids.rows[k * channels + c]).toBeCloseTo(centroid[c], 4);
    });
  });

  test('many clusters lose little against rounds over all centroids', () => {
    const source = { rows: clouds(6000, 300, 1), count: 6000, channels };
    const starts = evenStarts(6000, 300);
    const near = kMeans(source, starts, 12, metric);
    const exact = { rows: near.centroids.rows.slice(), count: 300, channels };
    for (const [k, start] of starts.entries()) exact.rows.set(rowOf(source.rows, start), k * channels);
    const labels = new Int32Array(6000);
    for (let round = 0; round < 12; round++) {
      assignAll(source, exact, metric, labels);
      moveToMeans(source, labels, exact);
    }
    const gain = (of: Int32Array, centroids: Float32Array): number => {
      let sum = 0;
      of.forEach((label, i) => {
        sum += closeness(rowOf(source.rows, i), rowOf(centroids, label), metric);
      });
      return sum / 6000;
    };
    const [mine, best] = [gain(near.labels, near.centroids.rows), gain(labels, exact.rows)];
    expect(Math.abs(mine - best) / Math.abs(best)).toBeLessThan(0.02);
  });
});

test('members are the rows of each cluster, ascending', () => {
  const { starts, members } = membersOf(Int32Array.of(2, 0, 2, 2, 0), 4);
  expect([...starts]).toEqual([0, 2, 2, 5, 5]);
  expect([...members]).toEqual([1, 4, 0, 2, 3]);
});
