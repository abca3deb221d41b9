/** ClusterKV's choice against brute force, and what crosses the link for each query head. */
import { describe, expect, test } from 'vitest';
import { dot, GROUP, keys, ROW_BYTES, range, start, total, values } from '../../../test/policy-steps.ts';
import { ClusterIndex } from '../cluster-index.ts';

describe('ClusterKV', () => {
  const config = { budgetTokens: 50, sinkTokens: 8, clusterTokens: 20, windowTokens: 6, windowClusters: 2 };

  test('takes the clusters whose mean keys score highest, and truncates the last', () => {
    const { step } = start('clusterkv', config);
    const { q, of } = step();
    const index = new ClusterIndex(610, 40, 32, 8);
    index.add({ kvHead: 0, keys, values }, 600, {
      clusters: 30,
      iterations: 20,
      segments: 1,
      centred: false,
    });
    const groups = range(0, 30).map((k) => [...index.tokensOf(k)]);
    expect(groups.flat().sort((a, b) => a - b)).toEqual(range(8, 600));
    const means = groups.map((tokens) =>
      range(0, 32).map((c) => tokens.reduce((sum, t) => sum + keys[t * 32 + c], 0) / tokens.length),
    );
    for (let g = 0; g < GROUP; g++) {
      const order = range(0, 30).sort((a, b) => dot(q, g, means[b], 0) - dot(q, g, means[a], 0));
      const taken = order.flatMap((k) => groups[k]).slice(0, 50);
      expect(of(g)).toEqual([...range(0, 8), ...taken, 600].sort((a, b) => a - b));
    }
  });

  test('a token crosses once for each query head that did not choose it a step before', () => {
    const { step, cache } = start('clusterkv', config);
    let held = range(0, GROUP).map(() => new Set(range(8, 58)));
    for (let s = 0; s < 10; s++) {
      const { demand, append, of, length } = step();
      const window = (s % 6) + 1 === 6 ? 0 : (s % 6) + 1;
      const chosen = range(0, GROUP).map((g) => of(g).filter((t) => t >= 8 && t < length - window));
      const crossing = total(chosen.map((tokens, g) => tokens.filter((t) => !held[g].has(t)).length));
      expect(demand.fetchTokens).toEqual([crossing]);
      // Everything is attended once a query head: sinks and window are replicated, slots are its own.
      const attended = GROUP * (8 + window) + total(chosen.map((tokens) => tokens.length));
      expect(total(demand.residentTokens) + crossing).toBe(attended);
      expect(total(append.spillTokens)).toBe(window === 0 ? 6 : 0);
      const indexed = length - 8 - window;
      const clusters = 30 + 2 * Math.floor((s + 1) / 6);
      expect(cache.meta.get('clusters')).toEqual({ hbm: clusters * 64 + 8 * indexed, dram: 0 });
      expect(cache.residentBytes('dram')).toBe(indexed * ROW_BYTES);
      expect(cache.tokensIn('hbm', 0)).toBe(attended);
      held = chosen.map((tokens) => new Set(tokens));
    }
  });

  test('slots of the group hold a token once', () => {
    const { step, cache } = start('clusterkv', { ...config, slots: 'kv-head' });
    const { demand, of } = step();
    const union = new Set(range(0, GROUP).flatMap(of));
    expect(total(demand.residentTokens) + total(demand.fetchTokens)).toBe(union.size);
    expect(cache.tokensIn('hbm', 0)).toBe(union.size);
  });
});
