/** Retrieval policies step by step: their choices against brute force, their traffic against the formulas of their papers. */
import { describe, expect, test } from 'vitest';
import { loadModel } from '../model/models.ts';
import { ClusterIndex } from '../policy/cluster-index.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { findPolicy } from '../policy/find-policy.ts';
import { samplingChance } from '../policy/lsh-index.ts';
import type { Work, World } from '../policy/policy.ts';
import { PqIndex } from '../policy/pq-index.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { emptyDemand } from './demand.ts';
import { LayerReplay } from './head-replay.ts';
import { Lowering } from './lower.ts';
import { promptOf } from './replay.ts';

const shape = {
  layers: 4,
  heads: 4,
  kvHeads: 1,
  headDim: 32,
  promptTokens: 600,
  steps: 10,
  recordedLayers: [2],
};
const ROW_BYTES = 128;
const GROUP = 4;
const world: World = {
  layers: 4,
  heads: 4,
  kvHeads: 1,
  groupSize: GROUP,
  headDim: 32,
  kBytesPerToken: 64,
  vBytesPerToken: 64,
  promptTokens: 600,
  maxTokens: 610,
  fields: new Set(['k', 'v', 'q', 'qprompt']),
};
const trace = createRandomTrace({ shape, seed: 11 });
const keys = trace.keys(2, 0);
const values = trace.values(2, 0);

/** A policy on one head, one step after the other. */
const start = (name: string, config: Record<string, unknown>) => {
  const policy = createPolicy(findPolicy(name), config, world);
  const rows = [{ kvHead: 0, keys, values }];
  const replay = new LayerReplay(policy, world, 2, rows, 1);
  const prefill = replay.prefill(promptOf({ trace, world, steps: shape.steps }, 2, rows, false));
  let at = 0;
  const step = () => {
    const append = replay.append();
    const q = trace.queries(2, at, 0);
    const demand = replay.select(
      at++,
      () => q,
      () => null,
    );
    const { marks, length } = replay.selections[0];
    /** Attended tokens of one query head. */
    const of = (g: number): number[] =>
      Array.from({ length }, (_, t) => t).filter((t) => (marks[t] >> g) & 1);
    return { append, demand, q, of, length };
  };
  return { policy, replay, cache: replay.heads[0].cache, prefill, step };
};

const dot = (q: Float32Array, g: number, rows: ArrayLike<number>, row: number): number => {
  let sum = 0;
  for (let c = 0; c < 32; c++) sum += q[g * 32 + c] * rows[row * 32 + c];
  return sum;
};
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const total = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);

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
      'pqcache.subspaces: expected a divisor of the head dimension 32, got 3',
    );
  });
});

describe('MagicPIG', () => {
  const config = { hashes: 5, tables: 20, localTokens: 30, denseLayers: [] };

  test('attends to sampled keys by the inverse of their chance, and to the rest of HBM as it is', () => {
    const { step, replay } = start('magicpig', config);
    const { q, of, length } = step();
    const means = range(0, 32).map((c) => total(range(4, 570).map((t) => keys[t * 32 + c])) / 566);
    const centred = keys.map((x, at) => x - means[at % 32]);
    const size = (rows: Float32Array, row: number): number => {
      const own = rows.subarray(row * 32, (row + 1) * 32);
      return Math.sqrt(own.reduce((sum, x) => sum + x * x, 0));
    };
    for (let g = 0; g < GROUP; g++) {
      const factors = replay.selections[0].factorsOf(g);
      const attended = of(g);
      expect(attended.filter((t) => t < 4 || t >= 570)).toEqual([...range(0, 4), ...range(570, length)]);
      for (const t of attended) {
        const cosine = dot(q, g, centred, t) / (size(q, g) * size(centred, t));
        const chance = t < 4 || t >= 570 ? 1 - 1e-4 : samplingChance(cosine, 5, 20, 2);
        expect((factors?.[t] ?? 1) * (chance + 1e-4)).toBeCloseTo(1, 3);
      }
    }
  });

  test('the CPU reads a key once for each query head that sampled it; codes, queries and outputs cross', () => {
    const { step, policy, cache } = start('magicpig', config);
    const { demand, of } = step();
    const sampled = total(range(0, GROUP).map((g) => of(g).filter((t) => t >= 4 && t < 570).length));
    expect(demand.fetchTokens).toEqual([sampled]);
    expect(demand.farAttendTokens).toBeCloseTo(sampled / GROUP, 10);
    expect(demand.residentTokens).toEqual([4 + 31]);
    expect(cache.residentBytes('dram')).toBe(566 * (ROW_BYTES + 4 * 20 + 4) + 8 * 20 * 2 ** 5);
    const lowering = new Lowering({
      model: loadModel('llama-3.1-8b'),
      policy,
      forms: cache.forms,
      batch: 1,
      promptTokens: 600,
      elementBytes: 2,
      dramBytes: 0,
      dense: false,
    });
    const { operations } = lowering.step(0, [{ append: emptyDemand(1), choice: demand }]);
    const crossing = (kind: string): number =>
      total(operations.map((o) => ('rowBytes' in o && o.kind === kind ? o.rows * o.rowBytes : 0)));
    // 32 query heads of 128 channels in 16 bits; codes of 4 bytes for the 4 query heads of each of 8 KV heads.
    expect(crossing('spill')).toBe(32 * (4 * 20 + 2 * 128));
    expect(crossing('fetch')).toBe(32 * (2 * 128 + 4));
  });
});
