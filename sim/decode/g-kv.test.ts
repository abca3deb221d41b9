/**
 * G-KV and R-KV against a plain re-implementation: window attention of the group's strongest query head, fading global
 * scores, cosines pair by pair. What is attended in every step, over several compressions.
 */
import { describe, expect, test } from 'vitest';
import { createSmall, DIM, GROUP, ROW_BYTES, WINDOW } from '../../test/small-attention.ts';
import { keyRedundancy } from '../policy/key-redundancy.ts';

const PROMPT = 70;
const STEPS = 20;
const BUDGET = 24;
const EVERY = 6;
const QUERIES = 4;
const small = createSmall({ layers: 1, kvHeads: 2, promptTokens: PROMPT, steps: STEPS, seed: 9 });
const sizes = { budgetTokens: BUDGET, everySteps: EVERY, windowTokens: QUERIES };

interface Rule {
  readonly normalised: boolean;
  readonly balance: number;
  readonly pool: number;
  /** New global score from the old one (undefined: none) and the local one. */
  join(old: number | undefined, local: number): number;
}

/** The group's strongest attention to each token, one map a query. */
type Strongest = ReadonlyMap<number, number>;

const strongest = (rows: readonly Map<number, number>[]): Strongest =>
  new Map([...rows[0].keys()].map((token) => [token, Math.max(...rows.map((row) => row.get(token) ?? 0))]));

const kept = (
  held: readonly number[],
  last: readonly Strongest[],
  globals: Map<number, number>,
  kvHead: number,
  { normalised, balance, pool, join }: Rule,
): number[] => {
  const past = held.slice(0, held.length - QUERIES);
  const local = past.map((token) => last.reduce((sum, row) => sum + (row.get(token) ?? 0), 0) / last.length);
  const top = normalised ? Math.max(...local) : 1;
  past.forEach((token, i) => {
    globals.set(token, join(globals.get(token), local[i] / top));
  });
  const half = (pool - 1) / 2;
  const pooled = past.map((_, i) =>
    Math.max(...past.slice(Math.max(0, i - half), i + half + 1).map((token) => globals.get(token) ?? 0)),
  );
  const all = keyRedundancy(small.trace.keys(0, kvHead), DIM, Int32Array.from(held), held.length, 0.5);
  const redundancy = [...all.subarray(0, past.length)];
  const most = normalised ? Math.max(...redundancy) : 1;
  const rank = pooled.map((score, i) => balance * score - ((1 - balance) * redundancy[i]) / most);
  const order = past.map((_, i) => i).sort((a, b) => rank[b] - rank[a]);
  const best = new Set(order.slice(0, BUDGET - QUERIES));
  for (const [i, token] of past.entries()) if (!best.has(i)) globals.delete(token);
  return held.filter((_, i) => i >= past.length || best.has(i));
};

const expected = (kvHead: number, rule: Rule): number[][] => {
  const rows: Strongest[] = [];
  const globals = new Map<number, number>();
  const heads = [0, 1];
  for (let w = WINDOW - QUERIES; w < WINDOW; w++) {
    rows.push(
      strongest(
        heads.map((g) => {
          const { q, length } = small.promptQueryOf(0, kvHead, w, g);
          return small.softmaxOver(q, 0, kvHead, small.promptTokens().slice(0, length));
        }),
      ),
    );
  }
  let held = kept(small.promptTokens(), rows.slice(-QUERIES), globals, kvHead, rule);
  return Array.from({ length: STEPS }, (_, step) => {
    if (step > 0 && step % EVERY === 0) held = kept(held, rows.slice(-QUERIES), globals, kvHead, rule);
    held = [...held, PROMPT + step];
    const tokens = held;
    rows.push(
      strongest(heads.map((g) => small.softmaxOver(small.queryOf(0, step, kvHead, g), 0, kvHead, tokens))),
    );
    return held;
  });
};

const fading = { normalised: true, balance: 0.5, pool: 1 };
const rules: readonly (readonly [string, Record<string, unknown>, Rule])[] = [
  ['G-KV', {}, { ...fading, join: (old, local) => Math.max(0.8 * (old ?? local), local) }],
  ['a mean', { memory: 'mean' }, { ...fading, join: (old, local) => 0.8 * (old ?? local) + 0.2 * local }],
  ['a sum', { memory: 'sum', decay: 1 }, { ...fading, join: (old, local) => (old ?? 0) + local }],
  [
    'R-KV',
    { memory: 'none', balance: 0.1, poolTokens: 5 },
    { normalised: false, balance: 0.1, pool: 5, join: (_, local) => local },
  ],
];

describe.each(rules)('%s', (_, config, rule) => {
  const { attended, records } = small.run('g-kv', { ...sizes, ...config });

  test('keeps what a plain implementation keeps', () => {
    for (const kvHead of [0, 1]) {
      const truth = expected(kvHead, rule);
      for (let g = 0; g < GROUP; g++) expect(attended[0].map((heads) => heads[kvHead][g])).toEqual(truth);
    }
  });

  test('reads the budget and what came since, and scores when it compresses', () => {
    records[0].choices.forEach(({ residentTokens }, step) => {
      const since = 1 + (step % EVERY);
      expect(residentTokens).toEqual([BUDGET + since]);
      const { works } = records[0].appends[step];
      expect(works.length > 0).toBe(step > 0 && step % EVERY === 0);
    });
    const tokens = BUDGET + EVERY;
    const [columns, redundancy] = records[0].appends[EVERY].works;
    expect(columns.matrixFlops).toBeCloseTo(2 * DIM * QUERIES * GROUP * tokens);
    expect(redundancy.matrixFlops).toBeCloseTo(2 * DIM * tokens * tokens);
    // KV, a score a token, and the window's queries.
    expect(records[0].residency[0].hbmBytes).toBe(
      (BUDGET + 1) * (2 * ROW_BYTES + 4) + QUERIES * GROUP * ROW_BYTES,
    );
  });
});

test('attention alone needs no cosines, and a window that fills the budget is refused', () => {
  const { records } = small.run('g-kv', { ...sizes, balance: 1 });
  expect(records[0].appends[EVERY].works.map(({ index }) => index)).toEqual(['attention-columns']);
  expect(() => small.run('g-kv', { budgetTokens: 16, windowTokens: 16 })).toThrow(/more than windowTokens/);
});
