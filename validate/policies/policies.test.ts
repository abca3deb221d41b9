/** Files of workloads and samples, statistics, and the judging of recorded samples. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openReference } from '../../kernels/reference.ts';
import { replaySteps } from '../../sim/decode/step-program.ts';
import { compareExperimentSchema } from '../../sim/experiment.ts';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import { evaluate, machineFor } from './evaluate.ts';
import { readWorkloads, writeWorkloads } from './pack.ts';
import { casesOf } from './prepare-cases.ts';
import { runCases } from './run-cases.ts';
import { readValidationSamples, writeValidationSamples } from './samples.ts';
import { kendallTau, type Pair, summariseValidation } from './statistics.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvtier-validation-'));
afterAll(() => rmSync(folder, { recursive: true }));

const spec = {
  preset: 'smollm2-135m',
  shape: { layers: 30, heads: 9, kvHeads: 3, headDim: 64, ropeTheta: 100_000 },
  promptTokens: 128,
  steps: 2,
  seed: 1,
};
const trace = createSyntheticTrace(spec);
const origin = { kind: 'synthetic', preset: spec.preset, spec } as const;

const replay = replaySteps({
  experiment: compareExperimentSchema.parse({
    trace: origin,
    model: 'smollm2-135m',
    hardware: 'h100-sxm',
    stack: 'kvtier-kernels',
    policies: ['full', 'full-offload', 'snapkv'].map((name) => ({
      label: name,
      name,
      config: name === 'snapkv' ? { budgetTokens: 64 } : {},
    })),
    contextTokens: 128,
    steps: 2,
    batch: 1,
    dense: false,
    elementBytes: 2,
    layers: [2],
    kvHeads: 'all',
    seed: 1,
  }),
  trace,
});

const prepare = (memoryBytes: number) =>
  casesOf(replay, { context: 128, batches: [1], budget: null, trace: origin, layers: 4, memoryBytes });

const machine = machineFor(loadProfile('h100-sxm'), loadStack('kvtier-kernels'));

describe('workloads', () => {
  it('are the same after a file, transfers of whole layers included', () => {
    const cases = prepare(2 ** 30);
    const path = join(folder, 'w.json.gz');
    writeWorkloads(path, cases);
    expect(readWorkloads(path)).toEqual(cases);
  });

  it('take fewer layers where memory is short', () => {
    expect(prepare(2 ** 30).map(({ workload }) => workload.program.layers.length)).toEqual([4, 4, 4]);
    for (const { workload } of prepare(400_000)) expect(workload.program.layers.length).toBeLessThan(4);
  });

  it('of another format are refused in one line that names the file', () => {
    const path = join(folder, 'x.json');
    writeFileSync(path, '{"format":"x"}');
    expect(() => readWorkloads(path)).toThrow(/x\.json: field format: .*kvtier\.workloads/);
    writeFileSync(path, 'no JSON');
    expect(() => readWorkloads(path)).toThrow(/x\.json: expected workloads as JSON/);
  });
});

const options = {
  hbmBytes: 2 ** 28,
  dramBytes: 2 ** 28,
  warmups: 0,
  repeats: 1,
  rounds: 2,
  once: false,
  seed: 1,
  date: '2026-01-01',
  rowsOf: () => (layer: number, kvHead: number) => ({
    keys: trace.keys(layer, kvHead),
    values: trace.values(layer, kvHead),
    queries: trace.queries(layer, 1, kvHead),
  }),
  onProgress: () => {},
  say: () => {},
  limitMs: 60_000,
  caseLimitMs: 60_000,
};

describe('a run', () => {
  it('keeps what was measured, and judges it the same after a file', async () => {
    const samples = await runCases(openReference(), prepare(2 ** 30), options);
    expect(samples.cases.map(({ rounds }) => rounds.length)).toEqual([2, 2, 2]);
    for (const { outputError } of samples.cases) expect(outputError).toBeLessThan(1e-2);
    const path = join(folder, 's.json.gz');
    writeValidationSamples(path, samples);
    const judged = evaluate(readValidationSamples(path), machine);
    expect(judged).toEqual(evaluate(samples, machine));
    expect(judged.summary.n).toBe(3);
    const [full] = judged.cases;
    expect(full.kinds.map(({ kind }) => kind)).toEqual(['append', 'attend']);
    expect(full.kinds.reduce((sum, { predictedNs }) => sum + predictedNs, 0)).toBeCloseTo(
      full.predictedNs,
      3,
    );
  });

  it('says why a case cannot run, and runs the others', async () => {
    const [full, offload] = prepare(2 ** 30);
    const { cases, refused } = await runCases(openReference(), [full, offload], {
      ...options,
      dramBytes: 1000,
    });
    expect(cases.map(({ policy }) => policy)).toEqual(['full']);
    expect(refused).toHaveLength(1);
    expect(refused[0].reason).toMatch(/^needs .* of dram/);
  });
});

const pair = (predictedNs: number, measuredNs: number, group = 'a'): Pair => ({
  group,
  predictedNs,
  measuredNs,
  roundNs: [measuredNs, measuredNs * 1.01],
  predictedBytes: 100,
  measuredBytes: 100,
});

describe('statistics', () => {
  it('are those of the definitions', () => {
    const summary = summariseValidation([pair(110, 100), pair(180, 200), pair(300, 300)]);
    expect(summary.mape).toBeCloseTo(0.2 / 3, 12);
    expect(summary.bias).toBeCloseTo(0, 12);
    expect(summary.medianApe).toBeCloseTo(0.1, 12);
    expect(summary.kendallTau).toBe(1);
    expect(summary.noiseApe).toBeCloseTo(0.01 / 1.01, 12);
    expect(summary.signAccuracy).toBe(1);
    expect(summary.bytesMape).toBe(0);
  });

  it('rank within groups only', () => {
    const inverse = [pair(1, 2), pair(2, 1), pair(10, 10, 'b'), pair(20, 20, 'b')];
    expect(summariseValidation(inverse).kendallTau).toBe(0);
  });

  it('find tau 1 under any rising function and -1 under any falling one', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 2, maxLength: 20 }),
        (values) => {
          expect(
            kendallTau(
              values,
              values.map((x) => Math.sqrt(x)),
            ),
          ).toBeCloseTo(1, 12);
          expect(
            kendallTau(
              values,
              values.map((x) => -x),
            ),
          ).toBeCloseTo(-1, 12);
        },
      ),
      { seed: 42 },
    );
  });
});

describe('a backend that hangs', () => {
  it('is given up with a reason, and what was measured before is kept', async () => {
    const reference = openReference();
    let runs = 0;
    const backend = {
      name: reference.name,
      device: reference.device,
      allocate: reference.allocate.bind(reference),
      free: reference.free.bind(reference),
      write: reference.write.bind(reference),
      read: reference.read.bind(reference),
      fill: reference.fill.bind(reference),
      sense: reference.sense.bind(reference),
      close: () => {},
      run: (...given: Parameters<typeof reference.run>) =>
        runs++ < 3 ? reference.run(...given) : new Promise<never>(() => {}),
    };
    const { cases, refused } = await runCases(backend, prepare(2 ** 30), {
      ...options,
      rounds: 1,
      caseLimitMs: 800,
    });
    expect(cases).toHaveLength(1);
    expect(refused.map(({ reason }) => reason)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^did not end within 0\.8 s/),
        'no time was left for it',
      ]),
    );
  });
});
