/** What every policy of the catalog promises, on small random traces; a new policy is covered by being in the folder. */
import { describe, expect, test } from 'vitest';
import { catalog } from '../policy/catalog.generated.ts';
import type { PolicyPlugin, World } from '../policy/policy.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { type PolicyReplay, replayPolicies } from './replay.ts';

const shape = {
  layers: 4,
  heads: 8,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 700,
  steps: 12,
  recordedLayers: [2],
};
const world: World = {
  layers: shape.layers,
  heads: shape.heads,
  kvHeads: shape.kvHeads,
  groupSize: 4,
  headDim: shape.headDim,
  kBytesPerToken: 64,
  vBytesPerToken: 64,
  promptTokens: shape.promptTokens,
  maxTokens: shape.promptTokens + shape.steps,
  fields: new Set(['k', 'v', 'q', 'qprompt']),
};

/** Small sizes, so that the mechanisms of every policy are at work on 700 tokens. */
const variants: readonly (readonly [string, Record<string, unknown>])[] = [
  ['full', {}],
  ['full-offload', {}],
  ['streaming-llm', { windowTokens: 100 }],
  ['snapkv', { budgetTokens: 100, windowTokens: 8 }],
  ['snapkv', { budgetTokens: 100, windowTokens: 8, group: 'per-query' }],
  ['quest', { budgetTokens: 128 }],
  ['quest', { budgetTokens: 128, tier: 'dram' }],
  ['quest', { budgetTokens: 128, tier: 'dram', group: 'max', reuse: false }],
  ['ttkv', { blockTokens: 32, fastTokens: 128, slowBlocks: 4 }],
  ['ttkv', { blockTokens: 32, fastTokens: 100, slowShare: 0.5, summary: 'min-max', selectPer: 'head' }],
  ['ttkv', { blockTokens: 32, fastTokens: 128, slowBlocks: 4, predict: 'previous-step', buffers: 3 }],
  ['pariskv', { topK: 20, localTokens: 32, updateTokens: 4, minTokens: 0 }],
  ['pariskv', { topK: 200, localTokens: 32, updateTokens: 4, minTokens: 0, coverage: 0.85 }],
];

const replay = (
  name: string,
  config: Record<string, unknown>,
  otherFrom?: number,
  everySteps = 1,
): PolicyReplay => {
  const plugin = (catalog as Record<string, unknown>)[name] as PolicyPlugin;
  const trace = createRandomTrace({ shape, seed: 7, ...(otherFrom === undefined ? {} : { otherFrom }) });
  const policy = plugin.create(plugin.config.parse(config), world);
  const sample = { layers: [2], kvHeads: [0, 1], everySteps };
  return replayPolicies({ trace, world, sample, steps: shape.steps, seed: 1, policies: [policy] })[0];
};

test('every policy of the catalog is under contract', () => {
  expect(Object.keys(catalog).filter((name) => !variants.some(([tested]) => tested === name))).toEqual([]);
});

describe.each(variants)('%s %o', (name, config) => {
  const run = replay(name, config);
  const record = run.records.get(2);
  if (record === undefined) throw new Error('layer 2 was not replayed');

  test('quality lies in its range, and what is attended exists', () => {
    expect(run.quality.massRecall.length).toBe(shape.heads * shape.steps);
    for (const recall of [...run.quality.massRecall, ...run.quality.topkRecall]) {
      expect(recall).toBeGreaterThan(0);
      expect(recall).toBeLessThanOrEqual(1);
    }
    record.choices.forEach((choice, step) => {
      expect(choice.attendTokens).toBeGreaterThan(0);
      expect(choice.attendTokens).toBeLessThanOrEqual(shape.promptTokens + step + 1);
    });
  });

  test('a token is resident or dropped, and only what lies in DRAM crosses the link', () => {
    record.residency.forEach((resident, step) => {
      const length = shape.promptTokens + step + 1;
      expect(resident.liveTokens).toBeLessThanOrEqual(length);
      const dram = resident.dramBytes / 128;
      const fetched = record.choices[step].fetchTokens.reduce((a, b) => a + b, 0);
      if (fetched > 0) expect(dram).toBeGreaterThan(0);
      for (const tokens of [...record.choices[step].residentTokens, ...record.choices[step].fetchTokens]) {
        expect(tokens).toBeGreaterThanOrEqual(0);
      }
    });
  });

  test.skipIf(run.policy.oracle)('the future does not change the past', () => {
    const half = shape.steps / 2;
    const other = replay(name, config, shape.promptTokens + half);
    const otherRecord = other.records.get(2);
    const seen = half * shape.heads;
    expect(otherRecord?.prefill).toEqual(record.prefill);
    expect(otherRecord?.choices.slice(0, half)).toEqual(record.choices.slice(0, half));
    expect(other.quality.massRecall.slice(0, seen)).toEqual(run.quality.massRecall.slice(0, seen));
  });

  test('same input, same demands', () => {
    expect(replay(name, config).records.get(2)).toEqual(record);
  });

  test('scoring every second step keeps demands of the scored ones', () => {
    const sparse = replay(name, config, undefined, 2).records.get(2);
    expect(sparse?.appends).toEqual(record.appends);
    expect(sparse?.choices[0]).toEqual(record.choices[0]);
    expect(sparse?.residency.at(-1)?.liveTokens).toBe(record.residency.at(-1)?.liveTokens);
  });
});

test('budgets as large as the context lose nothing', () => {
  const generous: readonly (readonly [string, Record<string, unknown>])[] = [
    ['streaming-llm', { windowTokens: 10000 }],
    ['snapkv', { budgetTokens: 10000 }],
    ['quest', { budgetTokens: 10000 }],
    ['ttkv', { blockTokens: 32, fastTokens: 128, slowShare: 1 }],
    ['pariskv', { topK: 10000 }],
  ];
  for (const [name, config] of generous) {
    for (const recall of replay(name, config).quality.massRecall) expect(recall).toBeCloseTo(1, 5);
  }
});

test('adaptive K retrieves no more than its cap, and less where few tokens matter', () => {
  const sizes = { localTokens: 32, minTokens: 0 };
  const tokensOf = (config: Record<string, unknown>): number =>
    replay('pariskv', { ...sizes, ...config }).records.get(2)?.choices[0].attendTokens ?? 0;
  const capped = tokensOf({ topK: 200 });
  expect(tokensOf({ topK: 200, coverage: 0.6 })).toBeLessThan(capped);
  expect(tokensOf({ topK: 200, coverage: 0.3 })).toBeLessThan(tokensOf({ topK: 200, coverage: 0.6 }));
  expect(tokensOf({ topK: 200, coverage: 1 })).toBeLessThanOrEqual(capped);
});

test('coded KV costs output error, not mass', () => {
  const coded = replay('ttkv', { blockTokens: 32, fastTokens: 128, slowShare: 1 });
  const errors = coded.quality.outputError;
  expect(Math.max(...errors)).toBeGreaterThan(1e-4);
  expect(errors.reduce((a, b) => a + b, 0) / errors.length).toBeLessThan(0.1);
});
