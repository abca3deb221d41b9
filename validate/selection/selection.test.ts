/** Kernels select what the policies' own arithmetic selects, on generated attention. */
import { describe, expect, it } from 'vitest';
import { openReference } from '../../kernels/reference.ts';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import { selection as bounds } from './bounds.ts';
import { selection as centroids } from './centroids.ts';
import { jaccard, roundedToBf16, SelectionDevice } from './check.ts';
import { selection as codes } from './codes.ts';
import { selection as collisions } from './collisions.ts';
import { selection as hashes } from './hashes.ts';

const shape = { layers: 30, heads: 9, kvHeads: 3, headDim: 64, ropeTheta: 100_000 };
const trace = createSyntheticTrace({ preset: 'smollm2-135m', shape, promptTokens: 500, steps: 1, seed: 1 });
const head = {
  keys: roundedToBf16(trace.keys(3, 1)),
  queries: roundedToBf16(trace.queries(3, 0, 1)),
  tokens: 500,
  group: 3,
  headDim: 64,
};

describe('selected sets', () => {
  it.each([
    ['bounds of pages', bounds, { of: 32, k: 8 }, 3],
    ['centroids', centroids, { of: 40, k: 10 }, 1],
    ['product codes', codes, { of: 500, k: 20 }, 1],
  ])('by %s are those of the policy', async (_, check, size, selections) => {
    const pairs = await check.run(new SelectionDevice(openReference()), head, size);
    expect(pairs).toHaveLength(selections);
    for (const { byKernel, byPolicy } of pairs) {
      expect(byKernel.length).toBe(size.k);
      expect(jaccard(byKernel, byPolicy)).toBeGreaterThanOrEqual(0.99);
    }
  });

  it('by collisions are those of the policy, on a real capture and on generated attention', async () => {
    const real = openAttentionFile('traces/samples/smollm2-135m-book.safetensors');
    const generated = createSyntheticTrace({
      preset: 'smollm2-135m',
      shape,
      promptTokens: 2000,
      steps: 1,
      seed: 3,
    });
    const device = new SelectionDevice(openReference());
    for (const rows of [real, generated]) {
      const agreements: number[] = [];
      for (const layer of [7, 18, 28]) {
        for (const kvHead of [0, 1, 2]) {
          const keys = roundedToBf16(rows.keys(layer, kvHead).subarray(0, 2000 * 64));
          const queries = roundedToBf16(rows.queries(layer, 0, kvHead));
          const [{ byKernel, byPolicy }] = await collisions.run(
            device,
            { ...head, keys, queries, tokens: 2000 },
            { of: 2000, k: 100 },
          );
          agreements.push(jaccard(byKernel, byPolicy));
        }
      }
      expect(agreements.reduce((a, b) => a + b, 0) / agreements.length).toBeGreaterThanOrEqual(0.99);
    }
  });

  it('by hashes are those of the policy, neither empty nor everything', async () => {
    const pairs = await hashes.run(new SelectionDevice(openReference()), head);
    expect(pairs).toHaveLength(head.group);
    for (const { byKernel, byPolicy } of pairs) {
      expect(byPolicy.length).toBeGreaterThan(0);
      expect(byPolicy.length).toBeLessThan(head.tokens);
      expect(jaccard(byKernel, byPolicy)).toBeGreaterThanOrEqual(0.99);
    }
  });

  it('are compared as sets', () => {
    expect(jaccard([1, 2, 3], [3, 2, 1])).toBe(1);
    expect(jaccard([1, 2], [2, 3])).toBeCloseTo(1 / 3, 12);
    expect(jaccard([], [])).toBe(1);
  });
});
