/** ArkVale against a plain model of its slots and scores, and its bytes against closed forms. */
import { describe, expect, test } from 'vitest';
import { dotOf, rowOf, runPolicy, sumOf } from '../../../test/policy-run.ts';
import type { AttentionTrace } from '../../trace/attention-trace.ts';

const shape = { heads: 4, kvHeads: 2, headDim: 16, promptTokens: 203, steps: 24 };
const P = 8;
const small = { pageTokens: P, budgetPages: 12, topkPages: 8, sinkPages: 2, windowPages: 2, denseLayers: 0 };

/** Largest q·k within centre ± mean deviation (or the exact bounds) of a page's keys. */
const scoreOf = (q: number[], keys: number[][], isMean: boolean): number =>
  q.reduce((sum, x, c) => {
    const column = keys.map((key) => key[c]);
    const [most, least] = [Math.max(...column), Math.min(...column)];
    const centre = (most + least) / 2;
    const reach = isMean
      ? column.reduce((all, k) => all + Math.abs(k - centre), 0) / column.length
      : (most - least) / 2;
    return sum + Math.max(x * (centre + reach), x * (centre - reach));
  }, 0);

/** Mean score of every full page over all query heads of the layer. */
const layerScores = (
  trace: AttentionTrace,
  queries: (kvHead: number) => Float32Array,
  pages: number,
  isMean: boolean,
) =>
  Array.from({ length: pages }, (_, page) => {
    const scores = [0, 1].flatMap((kvHead) => {
      const keys = Array.from({ length: P }, (__, t) => rowOf(trace.keys(0, kvHead), page * P + t, 16));
      return [0, 1].map((g) => scoreOf(rowOf(queries(kvHead), g, 16), keys, isMean));
    });
    return sumOf(scores) / scores.length;
  });

const rankedBy = (scores: readonly number[], pages: readonly number[]): number[] =>
  [...pages].sort((a, b) => scores[b] - scores[a] || a - b);

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Resident pages after each step, and pages recalled in it. */
const plainModel = (trace: AttentionTrace, isMean: boolean) => {
  const start = Math.ceil(shape.promptTokens / P);
  const lastQuery = (kvHead: number): Float32Array => {
    const { windowTokens, q } = trace.promptQueries(0, kvHead);
    return q.subarray((windowTokens - 1) * 2 * 16);
  };
  const prompt = layerScores(trace, lastQuery, start - 1, isMean);
  const between = range(2, start - 2);
  let resident = new Set([0, 1, ...rankedBy(prompt, between).slice(0, 8), start - 2, start - 1]);
  return range(0, shape.steps).map((step) => {
    const length = shape.promptTokens + step + 1;
    const pages = Math.ceil(length / P);
    if ((length - 1) % P === 0) {
      resident.delete(pages - 1 - 2);
      resident.add(pages - 1);
    }
    const scores = layerScores(trace, (kvHead) => trace.queries(0, step, kvHead), pages - 1, isMean);
    const top = rankedBy(scores, range(2, pages - 2)).slice(0, 8 - 2 - 1);
    const recalled = top.filter((page) => !resident.has(page));
    const idle = [...resident].filter((page) => page >= 2 && page < pages - 2 && !top.includes(page));
    const out = rankedBy(scores, idle)
      .reverse()
      .slice(0, resident.size + recalled.length - 12);
    resident = new Set([...resident, ...recalled].filter((page) => !out.includes(page)));
    return { resident: [...resident].sort((a, b) => a - b), recalled: recalled.length, length };
  });
};

describe.each(['cuboid-mean', 'cuboid'] as const)('digest %s', (digest) => {
  const { trace, attended, record } = runPolicy('arkvale', { ...small, digest }, { shape });
  const model = plainModel(trace, digest === 'cuboid-mean');

  test('every head attends to the pages that a plain model keeps', () => {
    attended.forEach((heads, step) => {
      const { resident, length } = model[step];
      const tokens = resident.flatMap((page) => range(page * P, Math.min(length, (page + 1) * P)));
      for (const queries of heads) for (const positions of queries) expect(positions).toEqual(tokens);
    });
  });

  test('over the link come the recalled pages, and go a page when it is full', () => {
    expect(sumOf(model.map(({ recalled }) => recalled))).toBeGreaterThan(5);
    record.choices.forEach(({ fetchTokens }, step) => {
      expect(sumOf(fetchTokens)).toBe(model[step].recalled * P);
      const begins = (model[step].length - 1) % P === 0;
      expect(sumOf(record.appends[step].spillTokens)).toBe(begins ? P : 0);
    });
    expect(sumOf(record.prefill.spillTokens)).toBe(200);
  });
});

test('digests take two keys a page; slots hold the budget; DRAM holds every full page', () => {
  const { record, world } = runPolicy('arkvale', small, { shape });
  const token = world.kBytesPerToken + world.vBytesPerToken;
  record.residency.forEach(({ hbmBytes, dramBytes }, step) => {
    const length = shape.promptTokens + step + 1;
    const pages = Math.ceil(length / P);
    const slots = 12 * P - (pages * P - length);
    expect(hbmBytes).toBe(slots * token + (pages - 1) * 2 * world.kBytesPerToken);
    expect(dramBytes).toBe((pages - 1) * P * token);
    const [score] = record.choices[step].works;
    expect(score.readBytes.hbm).toBe((pages - 1) * 2 * world.kBytesPerToken);
    expect(score.flops).toBe(3 * 16 * (pages - 1) * 2);
  });
});

test('a choice per head, of the best pages only, by the maximum of its query heads', () => {
  const variant = { ...small, selectPer: 'head', reduce: 'max', attend: 'top', digest: 'cuboid' };
  const { trace, attended } = runPolicy('arkvale', variant, { shape });
  attended.forEach((heads, step) => {
    const length = shape.promptTokens + step + 1;
    const pages = Math.ceil(length / P);
    heads.forEach(([positions], kvHead) => {
      const keys = trace.keys(0, kvHead);
      const queries = [0, 1].map((g) => rowOf(trace.queries(0, step, kvHead), g, 16));
      const scores = range(0, pages - 1).map((page) => {
        const rows = range(page * P, (page + 1) * P).map((token) => rowOf(keys, token, 16));
        // No key of the page exceeds the bound.
        for (const q of queries)
          for (const row of rows) expect(dotOf(q, row)).toBeLessThan(scoreOf(q, rows, false) + 1e-4);
        return Math.max(...queries.map((q) => scoreOf(q, rows, false)));
      });
      const top = rankedBy(scores, range(2, pages - 2)).slice(0, 5);
      const chosen = [0, 1, ...top.sort((a, b) => a - b), pages - 2, pages - 1];
      expect(positions).toEqual(chosen.flatMap((page) => range(page * P, Math.min(length, (page + 1) * P))));
    });
  });
});

test('sizes that contradict each other are named', () => {
  expect(() => runPolicy('arkvale', { topkPages: 3 }, { shape })).toThrow(/topkPages/);
  expect(() => runPolicy('arkvale', { budgetPages: 32 }, { shape })).toThrow(/budgetPages/);
});
