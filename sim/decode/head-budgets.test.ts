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

/** Causal softmax rows of the last prompt queries of one KV head, all query heads, in doubles. */
const promptRows = (layer: number, kvHead: number): number[][] =>
  Array.from({ length: WINDOW * GROUP }, (_, row) => {
    const { q, length } = small.promptQueryOf(layer, kvHead, Math.floor(row / GROUP), row % GROUP);
    return [...small.softmaxOver(q, layer, kvHead, small.promptTokens().slice(0, length)).values()];
  });

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
      expect(residency.map(({ hbmBytes }) => hbmBytes)).toEqual([1, 2, 3, 4].map((s) => 64 * (mean + s)));
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
