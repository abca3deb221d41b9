/** Product quantisation against its definition in plain loops: nearest centroids, and sums of their products. */
import { expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { evenStarts, kMeans } from './k-means.ts';
import { PqIndex } from './pq-index.ts';

const d = 24;
const tokens = 300;
const from = 5;
const normals = (count: number, name: string): Float32Array => {
  const out = new Float32Array(count);
  createRandom(42, name).fillNormal(out);
  return out;
};
const keys = normals(tokens * d, 'keys');
const queries = normals(2 * d, 'queries');

test.each([1, 2, 3])('estimates with %i subspaces', (subspaces) => {
  const width = d / subspaces;
  const trained = 200;
  const part = (rows: Float32Array, row: number, s: number): number[] => [
    ...rows.subarray(row * d + s * width, row * d + (s + 1) * width),
  ];
  const books = Array.from({ length: subspaces }, (_, s) => {
    const rows = Float32Array.from({ length: trained - from }, (_, i) => from + i);
    const source = Float32Array.from([...rows].flatMap((row) => part(keys, row, s)));
    const set = { rows: source, count: trained - from, channels: width };
    return kMeans(set, evenStarts(trained - from, 16), 8, 'euclidean').centroids;
  });
  const index = new PqIndex(tokens, d, subspaces, 4, from);
  index.train(keys, trained, 8);
  index.encode(keys, tokens);
  const out = new Float32Array(2 * tokens);
  index.scoreInto(queries, 2, tokens, out, tokens, 0.5);
  for (let token = from; token < tokens; token++) {
    for (let q = 0; q < 2; q++) {
      let wanted = 0;
      for (let s = 0; s < subspaces; s++) {
        const key = part(keys, token, s);
        const centroids = Array.from({ length: 16 }, (_, k) => [
          ...books[s].rows.subarray(k * width, (k + 1) * width),
        ]);
        const apart = centroids.map((c) => c.reduce((sum, x, i) => sum + (x - key[i]) ** 2, 0));
        const nearest = centroids[apart.indexOf(Math.min(...apart))];
        wanted += part(queries, q, s).reduce((sum, x, i) => sum + x * nearest[i], 0) / 2;
      }
      expect(out[q * tokens + token - from]).toBeCloseTo(wanted, 4);
    }
  }
});
