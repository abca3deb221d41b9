/**
 * Policies that give heads different budgets, against plain re-implementations on a small random trace, and the bytes
 * that follow from the budgets.
 */
import { describe, expect, test } from 'vitest';
import { createSmall, GROUP, WINDOW } from '../../test/small-attention.ts';
import type { LayerRecord } from './replay.ts';

const PROMPT = 80;
const STEPS = 4;
const KV_HEADS = 4;
const small = createSmall({ layers: 2, kvHeads: KV_HEADS, promptTokens: PROMPT, steps: STEPS, seed: 11 });

const run = (name: string, config: Record<string, unknown>): readonly LayerRecord[] =>
  small.run(name, config).records;

const rowsOfHeads = new Map<string, number[][]>();

/** Causal softmax rows of the last prompt queries of one KV head, all query heads, in doubles. */
const promptRows = (layer: number, kvHead: number): number[][] => {
  const known = rowsOfHeads.get(`${layer}.${kvHead}`);
  if (known !== undefined) return known;
  const rows = Array.from({ length: WINDOW * GROUP }, (_, row) => {
    const { q, length } = small.promptQueryOf(layer, kvHead, Math.floor(row / GROUP), row % GROUP);
    return [...small.softmaxOver(q, layer, kvHead, small.promptTokens().slice(0, length)).values()];
  });
  rowsOfHeads.set(`${layer}.${kvHead}`, rows);
  return rows;
};

describe('dbudgetkv', () => {
  const norm = (rows: readonly number[][], from: number, to: number): number =>
    Math.sqrt(
      rows.flatMap((row) => row.filter((_, i) => i < from || i >= to)).reduce((s, a) => s + a * a, 0),
    );

  /** Tokens kept: the longest run behind the first four whose loss of norm stays within the threshold. */
  const keptTokens = (rows: readonly number[][], threshold: number): number => {
    let end = 4;
    while (end < PROMPT - 1 && 1 - norm(rows, 4, end + 1) / norm(rows, 0, 0) <= threshold) end++;
    return 4 + PROMPT - end;
  };

  test.each([0.01, 0.1, 0.5])('prunes while the norm keeps within %d', (threshold) => {
    run('dbudgetkv', { threshold }).forEach(({ residency }, layer) => {
      const kept = [0, 1, 2, 3].map((kvHead) => keptTokens(promptRows(layer, kvHead), threshold));
      const mean = kept.reduce((a, b) => a + b, 0) / KV_HEADS;
      // 4 bytes say how long a head is.
      expect(residency.map(({ hbmBytes }) => hbmBytes)).toEqual([1, 2, 3, 4].map((s) => 64 * (mean + s) + 4));
    });
  });

  test('decides for the layer as one where asked', () => {
    run('dbudgetkv', { threshold: 0.1, scope: 'layer' }).forEach(({ residency }, layer) => {
      const rows = [0, 1, 2, 3].flatMap((kvHead) => promptRows(layer, kvHead));
      expect(residency[0].liveTokens).toBeCloseTo(keptTokens(rows, 0.1) + 1, 9);
    });
  });

  test('at no threshold it loses nothing', () => {
    for (const { residency } of run('dbudgetkv', { threshold: 0 }))
      expect(residency[0].liveTokens).toBe(PROMPT + 1);
  });
});

describe('fastgen', () => {
  const [SINKS, HEAVY, WINDOW_SHARE] = [4, 0.1, 0.2];
  const config = { heavyRatio: HEAVY, windowRatio: WINDOW_SHARE, firstTokens: SINKS };

  /** Tokens that a cache of so many heavy hitters and recent tokens keeps, and what it recovers of the prompt. */
  const tried = (layer: number, kvHead: number, heavy: number, recent: number) => {
    const rows = promptRows(layer, kvHead);
    const rate = (token: number): number => {
      const seen = rows.filter((row) => token < row.length);
      return seen.reduce((sum, row) => sum + row[token], 0) / seen.length;
    };
    const others = small.promptTokens().slice(SINKS, PROMPT - recent);
    const hitters = new Set(others.sort((a, b) => rate(b) - rate(a)).slice(0, heavy));
    const shares = rows.map((row) =>
      row.reduce((sum, p, i) => sum + (i < SINKS || i >= row.length - recent || hitters.has(i) ? p : 0), 0),
    );
    return { tokens: SINKS + heavy + recent, share: shares.reduce((a, b) => a + b, 0) / rows.length };
  };

  /** Of the caches from the cheapest on, the first that recovers enough: its index and its tokens. */
  const chosen = (layer: number, kvHead: number, recovery: number) => {
    const [heavy, recent] = [Math.ceil(HEAVY * PROMPT), Math.floor(WINDOW_SHARE * PROMPT)];
    const caches = [
      tried(layer, kvHead, 0, 1),
      tried(layer, kvHead, heavy, 1),
      tried(layer, kvHead, heavy, recent),
    ];
    const at = caches.findIndex(({ share }) => share >= recovery);
    return at < 0 ? { at: 3, tokens: PROMPT } : { at, tokens: caches[at].tokens };
  };

  const seen = new Set<number>();
  test.each([0.08, 0.45, 0.7, 0.95])('gives each head the cheapest cache that recovers %d', (recovery) => {
    run('fastgen', { ...config, recovery }).forEach(({ afterPrefill, choices }, layer) => {
      const heads = [0, 1, 2, 3].map((kvHead) => chosen(layer, kvHead, recovery));
      for (const { at } of heads) seen.add(at);
      const mean = heads.reduce((sum, { tokens }) => sum + tokens, 0) / KV_HEADS;
      expect(afterPrefill.liveTokens).toBeCloseTo(mean, 9);
      // Only heads with heavy hitters go on scoring: keys once more, and 4 bytes of score a token.
      const scoring = heads.filter(({ at }) => at === 1 || at === 2).length / KV_HEADS;
      expect(choices[0].works.length > 0).toBe(scoring > 0);
    });
  });

  test("and all four caches were somebody's", () => {
    expect([...seen].sort()).toEqual([0, 1, 2, 3]);
  });

  test('caches follow the length, and the newest token is always there', () => {
    const [{ choices }] = run('fastgen', { ...config, recovery: 0 });
    for (const { attendTokens } of choices) expect(attendTokens).toBe(SINKS + 1);
    const [all] = run('fastgen', { ...config, recovery: 1, heavyRatio: 0, windowRatio: 0 });
    expect(all.choices.map(({ attendTokens }) => attendTokens)).toEqual([1, 2, 3, 4].map((s) => PROMPT + s));
  });
});

describe('duoattention and prulong', () => {
  const sizes = { sinkTokens: 4, windowTokens: 10 };
  const live = (full: number, step: number): number =>
    (full * (PROMPT + step + 1) + (KV_HEADS - full) * 14) / KV_HEADS;
  /** Scores with ties, most of them above 0.5. */
  const heads = [
    [0.9, 1, 0.1, 0.8],
    [0.7, 0.95, 0.6, 1],
  ];

  test.each([
    // Of eight heads 8 - ceil(0.7 · 7) are retrieval heads: both ones and 0.95.
    [0.7, [1, 2]],
    [0.5, [2, 2]],
    [0, [4, 4]],
    [1, [0, 0]],
    [null, [3, 4]],
  ])('a share of %d streams, whatever the scores are', (streamingRatio, full) => {
    for (const name of ['duoattention', 'prulong']) {
      const { records, policy } = small.run(name, { ...sizes, heads, streamingRatio });
      expect(policy.inputs).toBe('exact');
      records.forEach(({ choices, residency }, layer) => {
        choices.forEach(({ residentTokens }, step) => {
          expect(residentTokens[0]).toBeCloseTo(live(full[layer], step), 9);
          expect(residency[step].liveTokens).toBeCloseTo(live(full[layer], step), 9);
        });
      });
    }
  });

  test('without scores the heads that look far keep everything', () => {
    const far = (layer: number, kvHead: number): number => {
      const rows = promptRows(layer, kvHead);
      const sums = rows.map((row) => row.slice(4, row.length - 10).reduce((a, b) => a + b, 0));
      return sums.reduce((a, b) => a + b, 0) / rows.length;
    };
    const all = [0, 1].flatMap((layer) => [0, 1, 2, 3].map((kvHead) => ({ layer, far: far(layer, kvHead) })));
    const best = all.sort((a, b) => b.far - a.far).slice(0, 3);
    run('duoattention', { ...sizes, streamingRatio: 0.7 }).forEach(({ choices }, layer) => {
      const full = best.filter((head) => head.layer === layer).length;
      expect(choices[0].residentTokens[0]).toBeCloseTo(live(full, 0), 9);
    });
  });

  test('of a sample the same share streams', () => {
    const { records, policy } = small.run('duoattention', { ...sizes, heads, streamingRatio: 0.5 }, [0, 2]);
    // Scores 0.9 and 0.7 of the four replayed heads.
    for (const { residency } of records) expect(residency[0].liveTokens).toBe((PROMPT + 1 + 14) / 2);
    expect(policy.inputs).toMatch(/ranked among the replayed heads/);
  });

  test('in chunks a prompt query of a streaming head sees the cache and half of its chunk', () => {
    const chunked = { ...sizes, heads, streamingRatio: 1, chunkTokens: 20 };
    for (const { prefill } of run('duoattention', chunked))
      expect(prefill.attendTokens).toBeCloseTo((10 + 3 * (14 + 10)) / 4, 9);
  });

  test('scores of another model are refused', () => {
    expect(() => run('prulong', { heads: heads.slice(0, 1) })).toThrow(
      /expected 2 rows of 4 scores, found 1 rows/,
    );
    expect(() => run('prulong', { heads: [[1], [1]] })).toThrow(
      /expected 2 rows of 4 scores, found 1 in row 0/,
    );
  });
});
