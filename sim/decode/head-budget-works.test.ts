/**
 * What DBudgetKV and FastGen cost beside attention, in the numbers of Llama-3.1-8B at 32K tokens: the prompt's attention once
 * more to decide on budgets, and for FastGen a second look at the keys of heads that keep heavy hitters.
 */
import { describe, expect, test } from 'vitest';
import { worldOf } from '../../test/policy-cases.ts';
import { createSmall, DIM, GROUP, ROW_BYTES } from '../../test/small-attention.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { findPolicy } from '../policy/find-policy.ts';

const TOKENS = 32_768;
const HEADS = 32;
const KV_HEADS = 8;
const llama = worldOf({
  layers: 32,
  heads: HEADS,
  kvHeads: KV_HEADS,
  headDim: 128,
  promptTokens: TOKENS,
  steps: 1,
  recordedLayers: [0],
});

/** The declared profile of one layer of the whole prompt. */
const profileOf = (name: string, config: object) => {
  const [work, ...others] = createPolicy(findPolicy(name), { ...config }, llama).prefillWork;
  expect(others).toEqual([]);
  const all = TOKENS * KV_HEADS;
  return {
    matrixFlops: (work.matrixFlops ?? 0) * all,
    flops: work.flops * all,
    readBytes: (work.readBytes.hbm ?? 0) * all,
    writeBytes: (work.writeBytes?.hbm ?? 0) * all,
  };
};

describe.each(['dbudgetkv', 'fastgen'])('%s', (name) => {
  test('its profile is the logits of full prefill attention: 2 d n² / 2 flops a query head', () => {
    expect(profileOf(name, {})).toEqual({
      // 2 · 128 · 32 · 2^29: 4.4 Tflop; exponential and sum of each of the 2^29 · 32 entries.
      matrixFlops: 2 ** 42,
      flops: 2 ** 35,
      // 64 MiB of keys, and a score of 4 bytes a key.
      readBytes: 2 ** 26 + 2 ** 20,
      writeBytes: 2 ** 20,
    });
  });

  test('or attention writes its probabilities out, 2 bytes each, and they are read again', () => {
    expect(profileOf(name, { columns: 'materialised' })).toEqual({
      matrixFlops: 0,
      flops: 2 ** 35,
      readBytes: 2 ** 35 + 2 ** 20,
      writeBytes: 2 ** 35 + 2 ** 20,
    });
  });
});

describe('a step', () => {
  const [PROMPT, STEPS] = [80, 3];
  const small = createSmall({ layers: 1, kvHeads: 4, promptTokens: PROMPT, steps: STEPS, seed: 12 });

  test('of DBudgetKV reads what its heads kept and what was generated, and scores nothing', () => {
    const [{ afterPrefill, choices, appends }] = small.run('dbudgetkv', { threshold: 0.1 }).records;
    expect(afterPrefill.liveTokens).toBeLessThan(PROMPT);
    choices.forEach((choice, step) => {
      expect(choice.residentTokens).toEqual([afterPrefill.liveTokens + step + 1]);
      expect([choice.works, choice.topks, appends[step].works]).toEqual([[], [], []]);
    });
  });

  test('of FastGen reads the keys of heads with heavy hitters once more, with a score each', () => {
    // All heads get the cache with heavy hitters and no window: a recovery that first tokens cannot give, and nothing else can miss.
    const config = { recovery: 0.3, heavyRatio: 0.5, windowRatio: 0, firstTokens: 4 };
    const [{ choices }] = small.run('fastgen', config).records;
    choices.forEach((choice, step) => {
      const tokens = 4 + Math.ceil(0.5 * (PROMPT + step + 1)) + 1;
      expect(choice.residentTokens).toEqual([tokens]);
      expect(choice.works).toHaveLength(1);
      const [work] = choice.works;
      expect(work.readBytes.hbm).toBeCloseTo(tokens * (ROW_BYTES + 4), 9);
      expect(work.writeBytes?.hbm).toBeCloseTo(tokens * 4, 9);
      expect(work.flops).toBeCloseTo(tokens * GROUP * (2 * DIM + 2), 9);
    });
  });

  test('of FastGen with its cheapest cache reads that alone', () => {
    const [{ choices }] = small.run('fastgen', { recovery: 0, firstTokens: 6 }).records;
    for (const { residentTokens, works } of choices) {
      expect(residentTokens).toEqual([7]);
      expect(works).toEqual([]);
    }
  });
});
