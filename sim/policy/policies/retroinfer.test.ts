/** RetroInfer's zones against brute force, its cache of clusters against a plain list, and its updates. */
import { describe, expect, test } from 'vitest';
import { dot, GROUP, keys, ROW_BYTES, range, start, total, values } from '../../../test/policy-steps.ts';
import { ClusterIndex } from '../cluster-index.ts';

describe('RetroInfer', () => {
  const config = {
    retrievalRatio: 0.1,
    estimationRatio: 0.3,
    localTokens: 20,
    clusterTokens: 10,
    segmentTokens: 300,
    updateTokens: 24,
    pageTokens: 4,
  };
  // The nearest multiple of lcm(8, 2 segments) to 600 / 10, and a tenth of it.
  const [clusters, retrieved, estimated] = [64, 6, 19];
  const index = new ClusterIndex(610, 64, 32, 4);
  index.add({ kvHead: 0, keys, values }, 580, { clusters, iterations: 10, segments: 2, centred: true });
  const groups = range(0, clusters).map((k) => [...index.tokensOf(k)]);
  const meanOf = (rows: Float32Array, tokens: readonly number[]): number[] =>
    range(0, 32).map((c) => tokens.reduce((sum, t) => sum + rows[t * 32 + c], 0) / tokens.length);

  /** Clusters by the sum over the group of softmax(q·c/√d), best first. */
  const ranked = (q: Float32Array): number[] => {
    const shares = new Float64Array(clusters);
    for (let g = 0; g < GROUP; g++) {
      const weights = groups.map((tokens) =>
        tokens.length === 0 ? 0 : Math.exp(dot(q, g, meanOf(keys, tokens), 0) / Math.sqrt(32)),
      );
      for (let k = 0; k < clusters; k++) shares[k] += weights[k] / total(weights);
    }
    return range(0, clusters).sort((a, b) => shares[b] - shares[a]);
  };

  test('attends to the best clusters, and to centroid and mean value of the next', () => {
    expect(groups.flat().sort((a, b) => a - b)).toEqual(range(4, 580));
    const { step, replay } = start('retroinfer', config);
    const { q, of, demand } = step();
    const order = ranked(q);
    const exact = order.slice(0, retrieved).flatMap((k) => groups[k]);
    for (let g = 0; g < GROUP; g++)
      expect(of(g)).toEqual([...range(0, 4), ...exact, ...range(580, 601)].sort((a, b) => a - b));
    const [rows] = replay.selections[0].estimates;
    const next = order.slice(retrieved, retrieved + estimated).sort((a, b) => a - b);
    expect([...rows.sizes.subarray(0, rows.count)]).toEqual(next.map((k) => groups[k].length));
    next.forEach((k, i) => {
      for (const [c, x] of meanOf(keys, groups[k]).entries()) expect(rows.keys[i * 32 + c]).toBeCloseTo(x, 4);
      for (const [c, x] of meanOf(values, groups[k]).entries())
        expect(rows.values?.[i * 32 + c]).toBeCloseTo(x, 4);
    });
    // HBM: 25 tokens that are always there and the estimated rows; all retrieved tokens miss at first.
    expect(demand.residentTokens).toEqual([25 + estimated]);
    expect(demand.fetchTokens).toEqual([exact.length]);
    expect(demand.attendTokens).toBe(25 + estimated + exact.length);
  });

  test('an LRU cache of three times the choice keeps clusters; the rest crosses again', () => {
    const { step, cache } = start('retroinfer', config);
    let cached: number[] = [];
    for (let s = 0; s < 3; s++) {
      const { q, demand } = step();
      const chosen = ranked(q).slice(0, retrieved);
      const missed = chosen.filter((k) => !cached.includes(k));
      expect(demand.fetchTokens).toEqual([total(missed.map((k) => groups[k].length))]);
      cached = [...chosen, ...cached.filter((k) => !chosen.includes(k))].slice(0, 3 * retrieved);
    }
    expect(cache.residentBytes('dram')).toBe(576 * ROW_BYTES);
    expect(cache.meta.get('clusters')?.hbm).toBe(clusters * (ROW_BYTES + 3));
  });

  test('generated tokens are clustered by updates, each with its own share of the zones', () => {
    const { step, cache, replay } = start('retroinfer', { ...config, updateTokens: 4 });
    for (let s = 0; s < 3; s++) expect(total(step().append.spillTokens)).toBe(0);
    const { append, demand } = step();
    expect(append.spillTokens).toEqual([4]);
    expect(append.works[0].index).toBe('k-means');
    expect(cache.meta.get('clusters')?.hbm).toBe((clusters + 8) * (ROW_BYTES + 3));
    expect(replay.selections[0].estimates[0].count).toBe(estimated + 2);
    expect(demand.topks[0]).toMatchObject({ of: clusters + 8, k: retrieved + 1 + estimated + 2 });
  });
});
