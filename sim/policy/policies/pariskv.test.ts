/** ParisKV's winners against brute force over its index, with fixed and adaptive K; the slide of its window. */
import { describe, expect, test } from 'vitest';
import { dot, GROUP, keys, ROW_BYTES, range, start, total, values } from '../../../test/policy-steps.ts';
import { ParisIndex } from '../pariskv-index.ts';

describe('ParisKV', () => {
  const config = { topK: 20, localTokens: 40, updateTokens: 4, minTokens: 0, rho: 0.3, beta: 0.2 };

  /** Candidates by collisions with the mean query, and their estimates, from the index alone. */
  const candidatesOf = (q: Float32Array, end: number) => {
    const index = new ParisIndex(610, 32, 4);
    index.encode(keys, end);
    index.prepare(
      Float64Array.from(range(0, 32), (c) => total(range(0, GROUP).map((g) => q[g * 32 + c])) / GROUP),
      0.3,
    );
    const n = end - 4;
    const collisions = new Uint16Array(n);
    index.collide(collisions);
    const order = range(0, n).sort((a, b) => collisions[b] - collisions[a] || a - b);
    return order.slice(0, Math.ceil(0.2 * n)).map((i) => ({ token: 4 + i, estimate: index.estimate(4 + i) }));
  };

  test('winners are the best estimates among the keys that collide most; the zone grows in bursts', () => {
    const { step, cache } = start('pariskv', config);
    for (let s = 0; s < 5; s++) {
      const { append, demand, q, of, length } = step();
      const end = s < 3 ? 560 : 564;
      expect(append.spillTokens).toEqual([s === 3 ? 4 : 0]);
      expect(append.works.map(({ index }) => index)).toEqual(s === 3 ? ['encode', 'slide'] : []);
      const best = candidatesOf(q, end).sort((a, b) => b.estimate - a.estimate || a.token - b.token);
      const winners = best.slice(0, 20).map(({ token }) => token);
      expect(of(0)).toEqual([...range(0, 4), ...winners, ...range(end, length)].sort((a, b) => a - b));
      expect(demand.fetchTokens).toEqual([20]);
      // 4 subspaces of 8 channels: 4 ids, 16 bytes of 4-bit codes and 8 of weights a key; 256 counts a subspace.
      expect(cache.meta.get('index')?.hbm).toBe((end - 4) * 28 + 4 * 256 * 4);
      expect(cache.residentBytes('dram')).toBe((end - 4) * ROW_BYTES);
    }
  });

  test('without offloading the same tokens are attended, and none crosses', () => {
    const [far, near] = [
      start('pariskv', config).step(),
      start('pariskv', { ...config, offload: false }).step(),
    ];
    expect(near.of(0)).toEqual(far.of(0));
    expect(near.demand.fetchTokens).toEqual([0]);
    expect(near.demand.residentTokens).toEqual([65]);
  });

  test('adaptive K is the fewest winners that cover the benefit with what is always attended', () => {
    for (const coverage of [0.3, 0.6, 0.9]) {
      const { q, of, length } = start('pariskv', { ...config, topK: 100, leastK: 5, coverage }).step();
      const mean = Float32Array.from(
        range(0, 32),
        (c) => total(range(0, GROUP).map((g) => q[g * 32 + c])) / GROUP,
      );
      const benefit = (logit: number, token: number): number =>
        Math.exp(logit / Math.sqrt(32)) *
        Math.sqrt(total(range(0, 32).map((c) => values[token * 32 + c] ** 2)));
      const steady = [...range(0, 4), ...range(560, length)];
      const held = total(steady.map((token) => benefit(dot(mean, 0, keys, token), token)));
      const rest = candidatesOf(q, 560)
        .map(({ token, estimate }) => ({ token, size: benefit(estimate, token) }))
        .sort((a, b) => b.size - a.size);
      const all = held + total(rest.map(({ size }) => size));
      let kept = 5;
      while (kept < 100 && held + total(rest.slice(0, kept).map(({ size }) => size)) < coverage * all) kept++;
      const winners = rest.slice(0, kept).map(({ token }) => token);
      expect(of(0)).toEqual([...steady, ...winners].sort((a, b) => a - b));
    }
  });
});
