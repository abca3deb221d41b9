/** DeltaKV against its published shares, its plan and choices against brute force, and the error of its residuals. */
import { describe, expect, test } from 'vitest';
import { worldOf } from '../../../test/policy-cases.ts';
import { type PolicyReplay, replayPolicies } from '../../decode/replay.ts';
import { everyStep } from '../../decode/step-sample.ts';
import { createRandom } from '../../engine/random.ts';
import { mean } from '../../engine/stats.ts';
import { createRandomTrace } from '../../trace/random-trace.ts';
import { createPolicy } from '../create-policy.ts';
import { deltaCosts } from '../deltakv-cost.ts';
import type { World } from '../policy.ts';
import { ReferencePlan } from '../reference-plan.ts';
import { residualCodec } from '../reference-residual.ts';
import { policy as plugin } from './deltakv.ts';

const shape = {
  layers: 6,
  heads: 8,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 700,
  steps: 6,
  recordedLayers: [0, 1, 2, 3, 4, 5],
};
const world = worldOf(shape);
const trace = createRandomTrace({ shape, seed: 5 });
const sizes = { fullLayers: '0,3', sinkTokens: 4, recentTokens: 32, topTokens: 50, chunkTokens: 256 };

const run = (
  config: Record<string, unknown>,
  layers: readonly number[],
  given: Partial<World> = {},
): PolicyReplay => {
  const sample = { layers, kvHeads: [0, 1], ...everyStep };
  const policy = createPolicy(plugin, { ...sizes, ...config }, { ...world, ...given });
  return replayPolicies({ trace, world, sample, steps: shape.steps, seed: 1, policies: [policy] })[0];
};

describe('published shares, Llama-3.1-8B', () => {
  const N = 131_072;
  const llama: World = {
    ...world,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    kBytesPerToken: 256,
    vBytesPerToken: 256,
    promptTokens: N,
    maxTokens: N + 1,
  };
  const bytesOf = (latentDim: number, kvHeads: number, layers: number, fullLayers: number, bits: number) => {
    const model = { ...llama, kvHeads, layers };
    const costs = deltaCosts({ latentDim, bits, neighbours: 4, hidden: 3072 }, model);
    const plan = new ReferencePlan({
      sinkTokens: 8,
      recentTokens: 128,
      chunkTokens: 8192,
      stride: 10,
      promptTokens: N,
      maxTokens: N,
    });
    const whole = plan.countBefore(N) + N - plan.endAt(N);
    const full = 512 * kvHeads * N * layers;
    const lean = (perLatent: number): number =>
      (512 * kvHeads * N * fullLayers +
        (layers - fullLayers) * kvHeads * (512 * whole + perLatent * (N - whole))) /
      full;
    return {
      payload: lean(costs.payloadBytes),
      all: lean(costs.payloadBytes + costs.scaleBytes + costs.slotBytes),
    };
  };

  test('29 % of the memory with 512 4-bit values a residual; indexes and scales add little', () => {
    // The paper's headline is 29 %: (5 + 27 · (0.1 + 512 · 4 bits / 32,768 bits)) / 32 = 29.3 %, references as latents too.
    const { payload, all } = bytesOf(512, 8, 32, 5, 4);
    expect(payload).toBeGreaterThan(0.285);
    expect(payload).toBeLessThan(0.295);
    expect(all).toBeLessThan(0.315);
  });

  test('34 and 49 % for Qwen2.5-7B with 256 values of 4 and 16 bits', () => {
    expect(bytesOf(256, 4, 28, 6, 4).payload).toBeCloseTo(0.342, 1.9);
    expect(bytesOf(256, 4, 28, 6, 16).payload).toBeCloseTo(0.489, 1.4);
  });

  test('2048 tokens rebuilt in 27 layers move 1.1 GB of references, latents and scratch, and take 116 GFLOP', () => {
    const costs = deltaCosts({ latentDim: 512, bits: 4, neighbours: 4, hidden: 3072 }, llama);
    const work = costs.rebuild(2048);
    const layers = 27 * 8;
    // The scratch that attention reads back is its own.
    const bytes = (work.readBytes.hbm ?? 0) + (work.writeBytes?.hbm ?? 0);
    expect((layers * bytes) / 1e9).toBeCloseTo(1.15, 2);
    expect((layers * (work.matrixFlops ?? 0)) / 1e9).toBeCloseTo(116, 0);
    expect((layers * 2048 * costs.payloadBytes) / 1e6).toBeCloseTo(14.2, 1);
  });

  test('defaults by model: layers and residual size as published', () => {
    const policy = createPolicy(plugin, {}, { ...llama, promptTokens: 2000, maxTokens: 2001 });
    expect(Array.from({ length: 32 }, (_, layer) => layer).filter(policy.isDenseLayer)).toEqual([
      0, 1, 2, 8, 18,
    ]);
    expect([3, 8, 9, 18, 31].map((layer) => policy.choiceLayer(layer))).toEqual([2, 2, 8, 8, 18]);
    expect(policy.codecs[0].kBytesPerToken(128) * 2 * 8).toBe(256);
    expect(policy.denseWork(1, 1000)).toBeNull();
    expect(policy.denseWork(8, 1000)?.topk).toEqual({ of: 1000, k: 1000, rows: 1 / 8 });
    expect(policy.denseWork(8, 1000)?.attendTokens).toBeUndefined();
  });
});

test('compresses whole multiples of the recent tokens once the buffer holds two of them', () => {
  const plan = new ReferencePlan({
    sinkTokens: 4,
    recentTokens: 32,
    chunkTokens: 256,
    stride: 10,
    promptTokens: 700,
    maxTokens: 740,
  });
  let end = 4;
  const whole = new Set([0, 1, 2, 3]);
  for (let length = 256; length <= 740; length += length < 700 ? Math.min(256, 700 - length) : 1) {
    const buffer = length - end;
    if (buffer > 32) {
      const block = Math.floor((buffer - 32) / 32) * 32;
      for (let i = 0; i < block; i += 10) whole.add(end + i);
      end += block;
    }
    if (length >= 700) expect(plan.endAt(length)).toBe(end);
  }
  expect([...plan.references]).toEqual([...whole].sort((a, b) => a - b));
});

test('the observation layer’s best tokens are attended by the layers after it, and no others', () => {
  const { records, policy } = run({}, [1, 2, 4]);
  expect(policy.inputs).not.toMatch(/own queries/);
  expect(policy.inputs).toMatch(
    /instead of the trained compressor; references nearest to each head's own rows/,
  );
  const end = 4 + Math.floor((701 - 36) / 32) * 32;
  const scores = new Float64Array(end).fill(-Infinity);
  for (const kvHead of [0, 1]) {
    const keys = trace.keys(0, kvHead);
    const q = trace.queries(0, 0, kvHead);
    for (let token = 4; token < end; token++) {
      for (let g = 0; g < 4; g++) {
        let dot = 0;
        for (let c = 0; c < 32; c++) dot += q[g * 32 + c] * keys[token * 32 + c];
        scores[token] = Math.max(scores[token], dot);
      }
    }
  }
  const best = Array.from({ length: end - 4 }, (_, i) => i + 4)
    .sort((a, b) => scores[b] - scores[a])
    .slice(0, 50);
  const plan = new ReferencePlan({ ...sizes, stride: 10, promptTokens: 700, maxTokens: 706 });
  const latents = best.filter((token) => plan.isReference[token] === 0).length;
  for (const layer of [1, 2]) {
    const choice = records.get(layer)?.choices[0];
    expect(choice?.attendTokens).toBe(4 + 50 + 701 - end);
    expect(choice?.residentTokens).toEqual([4 + 50 - latents + 701 - end, latents]);
  }
  // Layer 4 follows layer 3, which saw other queries.
  const latentsOf = (layer: number) =>
    records.get(layer)?.choices.map(({ residentTokens }) => residentTokens[1]);
  expect(latentsOf(2)).toEqual(latentsOf(1));
  expect(latentsOf(4)).not.toEqual(latentsOf(1));
});

test('full layers that attend to their own choice read all keys for it, and then what they chose', () => {
  const policy = createPolicy(plugin, { ...sizes, fullTokens: 100 }, world);
  for (const layer of [0, 3]) {
    const work = policy.denseWork(layer, 700);
    expect(work?.attendTokens).toBe(100);
    expect(work?.topk).toEqual({ of: 700, k: 100, rows: 1 / 2 });
    // Keys in 16 bits; logits of 4 query heads in 32, read back for the choice.
    expect(work?.works[0].readBytes.hbm).toBe(700 * (2 * 32 + 4 * 4));
    expect(work?.works[0].matrixFlops).toBe(2 * 700 * 32 * 4);
  }
  expect(policy.denseWork(1, 700)).toBeNull();
  expect(policy.denseWork(3, 100)?.attendTokens).toBeUndefined();
});

test('says where a layer has to choose by its own queries', () => {
  const { policy } = run({}, [1, 4], {
    recordedLayers: [0, 1, 4],
    replayed: { layers: [1, 4], kvHeads: [0, 1] },
  });
  expect(policy.inputs).toMatch(/layers 4 choose by their own queries/);
  // A full layer alone stands for sparse ones.
  const alone = run({}, [3], { recordedLayers: [3], replayed: { layers: [3], kvHeads: [0, 1] } });
  expect(alone.policy.inputs).toMatch(/layers 3 choose by their own queries/);
});

test('latents in DRAM cross once chosen, and leave HBM when they are made', () => {
  const near = run({}, [1]).records.get(1);
  const far = run({ latents: 'dram' }, [1]).records.get(1);
  far?.choices.forEach(({ fetchTokens, residentTokens, attendTokens }, step) => {
    expect(fetchTokens[1]).toBe(near?.choices[step].residentTokens[1]);
    expect(residentTokens[0] + fetchTokens[1]).toBe(attendTokens);
  });
  const plan = new ReferencePlan({ ...sizes, stride: 10, promptTokens: 700, maxTokens: 706 });
  const latents = plan.endAt(700) - plan.countBefore(plan.endAt(700));
  expect(far?.prefill.spillTokens[1]).toBe(latents);
  expect(far?.afterPrefill.dramBytes).toBe((latents * (128 / 4) * 0.5) / 2);
});

test('a prompt chunk attends to sinks, the chosen history, its buffer and itself', () => {
  const attended = run({ prefillTopTokens: 64 }, [1]).records.get(1)?.prefill.attendTokens;
  let sum = 0;
  for (let token = 0; token < 700; token++) {
    const start = token - (token % 256);
    const history = Math.max(0, Math.floor((start - 36) / 32)) * 32;
    const size = Math.min(256, 700 - start);
    sum += start - history + Math.min(history, 64) + size / 2;
  }
  expect(attended).toBeCloseTo(sum / 700, 9);
});

test('residuals: whole references, exact at full rank, and less error with rank and bits', () => {
  const [n, d] = [600, 16];
  const plan = new ReferencePlan({
    sinkTokens: 4,
    recentTokens: 32,
    chunkTokens: 1000,
    stride: 10,
    promptTokens: n,
    maxTokens: n,
  });
  const keys = new Float32Array(n * d);
  const values = new Float32Array(n * d);
  createRandom(1, 'keys').fillNormal(keys);
  createRandom(1, 'values').fillNormal(values);
  // Neighbours are alike, and most of a row lies in few directions.
  for (let i = d; i < n * d; i++) {
    keys[i] = 0.9 * keys[i - d] + (0.4 * keys[i]) / (1 + (i % d));
    values[i] = 0.9 * values[i - d] + (0.4 * values[i]) / (1 + (i % d));
  }
  const errorOf = (rank: number, bits: number): number => {
    const codec = residualCodec({ rank, bits, neighbours: 4, metric: 'l2', payloadBytes: rank }, plan);
    const block = codec.encode(keys, values, d, 100, 64);
    const [k, v] = [new Float32Array(64 * d), new Float32Array(64 * d)];
    block.decodeKeys(k);
    block.decodeValues(v);
    let difference = 0;
    let norm = 0;
    for (let i = 0; i < 64 * d; i++) {
      const at = 100 * d + i;
      difference += (k[i] - keys[at]) ** 2 + (v[i] - values[at]) ** 2;
      norm += keys[at] ** 2 + values[at] ** 2;
      if (plan.isReference[100 + Math.floor(i / d)] === 1)
        expect([k[i], v[i]]).toEqual([keys[at], values[at]]);
    }
    return Math.sqrt(difference / norm);
  };
  expect(errorOf(32, 16)).toBeLessThan(1e-5);
  const errors = [errorOf(16, 16), errorOf(8, 16), errorOf(4, 16), errorOf(1, 16)];
  expect(errors).toEqual([...errors].sort((a, b) => a - b));
  expect(errorOf(8, 4)).toBeGreaterThan(errorOf(8, 8));
  expect(errorOf(8, 4)).toBeLessThan(0.5);
});

test('costs output error where latents are coarse, not mass', () => {
  const fine = run({ latentDim: 256, latentBits: 16, topTokens: 10_000 }, [1, 2]).quality;
  const coarse = run({ latentDim: 8, latentBits: 2, topTokens: 10_000 }, [1, 2]).quality;
  expect(mean(fine.massRecall)).toBeCloseTo(1, 5);
  expect(mean(coarse.massRecall)).toBeCloseTo(1, 5);
  expect(mean(coarse.outputError)).toBeGreaterThan(2 * mean(fine.outputError));
});

test('full layers that leave a layer without an observer are refused', () => {
  expect(() => run({ fullLayers: '1,3' }, [2])).toThrow(/expected 0 among them/);
  expect(() => run({ fullLayers: '0,9' }, [2])).toThrow(/below 6, got 9/);
});
