/**
 * Policies that give heads different budgets, against plain re-implementations on a small random trace, and the bytes
 * that follow from the budgets.
 */
import { describe, expect, test } from 'vitest';
import { createPolicy, findPolicy } from '../policy/find-policy.ts';
import type { World } from '../policy/policy.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { type LayerRecord, replayPolicies } from './replay.ts';

const PROMPT = 80;
const STEPS = 4;
const GROUP = 2;
const KV_HEADS = 4;
const DIM = 16;
const WINDOW = 16;
const shape = {
  layers: 2,
  heads: KV_HEADS * GROUP,
  kvHeads: KV_HEADS,
  headDim: DIM,
  promptTokens: PROMPT,
  steps: STEPS,
  recordedLayers: [0, 1],
};
const world: World = {
  layers: shape.layers,
  heads: shape.heads,
  kvHeads: KV_HEADS,
  groupSize: GROUP,
  headDim: DIM,
  kBytesPerToken: 32,
  vBytesPerToken: 32,
  promptTokens: PROMPT,
  maxTokens: PROMPT + STEPS,
  fields: new Set(['k', 'v', 'q', 'qprompt']),
};
const trace = createRandomTrace({ shape, seed: 11 });

/** Per layer, one replay of the KV heads given; all by default. */
const run = (
  name: string,
  config: Record<string, unknown>,
  kvHeads: readonly number[] = [0, 1, 2, 3],
  of: AttentionTrace = trace,
): readonly LayerRecord[] => {
  const policy = createPolicy(findPolicy(name), config, {
    ...world,
    replayed: { layers: [0, 1], kvHeads },
  });
  const sample = { layers: [0, 1], kvHeads, everySteps: 1 };
  const [{ records }] = replayPolicies({
    trace: of,
    world,
    sample,
    steps: STEPS,
    seed: 1,
    policies: [policy],
  });
  return [...records.values()];
};

/** Causal softmax rows of the last prompt queries of one KV head, all query heads, in doubles. */
const promptRows = (layer: number, kvHead: number): number[][] => {
  const { q } = trace.promptQueries(layer, kvHead);
  const keys = trace.keys(layer, kvHead);
  return Array.from({ length: WINDOW * GROUP }, (_, row) => {
    const length = PROMPT - (WINDOW - 1 - Math.floor(row / GROUP));
    const logits = Array.from({ length }, (_, token) => {
      let dot = 0;
      for (let c = 0; c < DIM; c++) dot += q[row * DIM + c] * keys[token * DIM + c];
      return dot / Math.sqrt(DIM);
    });
    const largest = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - largest));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  });
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
