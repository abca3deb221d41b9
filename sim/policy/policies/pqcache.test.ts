/** PQCache's choice against brute force, its cache of blocks against a plain LFU, and the bytes of its code books. */
import { describe, expect, test } from 'vitest';
import { keys, range, start, total } from '../../../test/policy-steps.ts';
import type { Work } from '../policy.ts';
import { PqIndex } from '../pq-index.ts';

describe('PQCache', () => {
  // 568 tokens beside the sinks: 28 are recent, 28 retrieved.
  const config = { bits: 5, cacheTokens: 64, blockTokens: 16 };
  const [sinks, recent, topK, heads] = [32, 28, 28, 4];
  const workOf = (works: readonly Work[], index: string): Work | undefined =>
    works.find((work) => work.index === index);

  test('takes the tokens with the largest sum of estimated softmax scores over the group', () => {
    const { step } = start('pqcache', config);
    const index = new PqIndex(610, 32, 2, 5, sinks);
    index.train(keys, 600, 20);
    for (let s = 0; s < 4; s++) {
      const { q, of, length } = step();
      const end = length - 1 - recent;
      index.encode(keys, end);
      const n = end - sinks;
      const logits = new Float32Array(heads * n);
      index.scoreInto(q, heads, end, logits, n, 1 / Math.sqrt(32));
      const shares = range(0, heads).map((g) => {
        const weights = range(0, n).map((i) => Math.exp(logits[g * n + i]));
        return weights.map((weight) => weight / total(weights));
      });
      const sums = range(0, n).map((i) => total(shares.map((row) => row[i])));
      const best = range(0, n).sort((a, b) => sums[b] - sums[a] || a - b);
      const chosen = best.slice(0, topK).map((i) => sinks + i);
      const attended = [...range(0, sinks), ...chosen, ...range(end, length)].sort((a, b) => a - b);
      for (let g = 0; g < heads; g++) expect(of(g)).toEqual(attended);
    }
  });

  test('blocks that were asked for come in whole; what they hold does not cross again', () => {
    const { step, cache } = start('pqcache', config);
    let uses = new Map<number, number>();
    let asked: number[] = [];
    for (let s = 0; s < 5; s++) {
      const { demand, append, of, length } = step();
      const end = length - 1 - recent;
      expect(total(append.spillTokens)).toBe(s === 0 ? 0 : 1);
      // Least frequently used, oldest use first: a map whose order is that of the last uses.
      const before = new Set(uses.keys());
      const counts = range(0, Math.floor((end - sinks) / 16)).map(
        (block) => asked.filter((t) => Math.floor((t - sinks) / 16) === block).length,
      );
      const ranked = range(0, counts.length).sort((a, b) => counts[b] - counts[a] || a - b);
      for (const block of ranked.slice(0, 4).sort((a, b) => a - b)) {
        if (counts[block] === 0) continue;
        const used = uses.get(block) ?? 0;
        if (used === 0 && uses.size === 4) {
          const least = Math.min(...uses.values());
          uses = new Map([...uses].filter(([key]) => key !== [...uses].find(([, n]) => n === least)?.[0]));
        }
        uses.delete(block);
        uses.set(block, used + 1);
      }
      const filled = [...uses.keys()].filter((block) => !before.has(block));
      asked = of(0).filter((t) => t >= sinks && t < end);
      const missing = asked.filter((t) => !uses.has(Math.floor((t - sinks) / 16)));
      expect(total(demand.fetchTokens) + total(demand.refillTokens)).toBe(
        missing.length + 16 * filled.length,
      );
      expect(total(demand.fetchTokens) + total(demand.residentTokens)).toBe(sinks + topK + recent + 1);
      expect(cache.tokensIn('hbm', 0)).toBe(sinks + recent + 1 + 16 * uses.size);
    }
  });

  test('code books are sent as the authors send them, packed, or not at all', () => {
    const books = 32 * 64;
    const sent = (codeBook: string) => {
      const { step, cache } = start('pqcache', { ...config, codeBook, reservedTokens: 1000 });
      const { works } = step().demand;
      return { bytes: workOf(works, 'code-book')?.readBytes.dram, meta: cache.meta.get('codes') };
    };
    // Two codes of 8 bytes for 1000 tokens; of 1 byte for the 572 - 32 tokens of the zone; none.
    const wide = 16 * 1000 + books;
    expect(sent('as-implemented')).toEqual({ bytes: wide, meta: { hbm: wide, dram: wide } });
    const packed = 2 * 540 + books;
    expect(sent('packed')).toEqual({ bytes: packed, meta: { hbm: books, dram: packed } });
    expect(sent('resident')).toEqual({ bytes: undefined, meta: { hbm: packed, dram: packed } });
  });

  test('parts that do not divide the head dimension are refused', () => {
    expect(() => start('pqcache', { subspaces: 3 })).toThrow(
      'subspaces: expected a divisor of the head dimension 32, got 3',
    );
  });
});
