/** The program of one step against the rows that it chose: tokens, bytes and places agree. */
import { describe, expect, it } from 'vitest';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import { compareExperimentSchema } from '../experiment.ts';
import type { TokenRun } from './head-choice.ts';
import { replaySteps, type StepProgram } from './step-program.ts';

const spec = {
  preset: 'smollm2-135m',
  shape: { layers: 30, heads: 9, kvHeads: 3, headDim: 64, ropeTheta: 100_000 },
  promptTokens: 700,
  steps: 2,
  seed: 1,
};

const experimentOf = (policies: readonly { readonly name: string; readonly config: object }[]) =>
  compareExperimentSchema.parse({
    trace: { kind: 'synthetic', preset: spec.preset, spec },
    model: 'smollm2-135m',
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: policies.map(({ name, config }, at) => ({ label: `${at} ${name}`, name, config })),
    contextTokens: spec.promptTokens,
    steps: spec.steps,
    batch: 1,
    dense: false,
    elementBytes: 2,
    layers: [3, 20],
    kvHeads: 'all',
    seed: 1,
  });

const replay = replaySteps({
  experiment: experimentOf([
    { name: 'full', config: {} },
    { name: 'full-offload', config: {} },
    { name: 'snapkv', config: { budgetTokens: 200 } },
    { name: 'quest', config: { tier: 'dram', budgetTokens: 128, denseLayers: 0 } },
  ]),
  trace: createSyntheticTrace(spec),
});
const programs = replay.programs(2, 4);

const tokensOf = (runs: readonly TokenRun[], place: TokenRun['place']): number =>
  runs.reduce((sum, run) => sum + (run.place === place ? run.count : 0), 0);

/** Rows that all heads of the executed layers read at a place, one sequence, by the nearest replayed head. */
const chosenBytes = (program: StepProgram, place: TokenRun['place']): number => {
  let bytes = 0;
  for (const { replayedLayer } of program.layers) {
    for (const { runs, estimatedRows } of program.choices[replayedLayer ?? -1])
      bytes += (tokensOf(runs, place) + (place === 'hbm' ? estimatedRows : 0)) * 256;
  }
  return bytes;
};

describe('the program of one step', () => {
  it('fetches and attends the bytes of the rows that the heads chose', () => {
    for (const program of programs) {
      const near = chosenBytes(program, 'hbm');
      const far = chosenBytes(program, 'fetched');
      let attended = 0;
      let fetched = 0;
      for (const operation of program.operations) {
        if (operation.kind === 'attend') attended += operation.readBytes.hbm ?? 0;
        if (operation.kind === 'fetch' && operation.chosen) fetched += operation.rows * operation.rowBytes;
      }
      expect(attended, program.policy).toBeCloseTo(2 * (near + far), 3);
      expect(fetched, program.policy).toBeCloseTo(2 * far, 3);
    }
  });

  it('packs what a tier holds: slots stay below its count, runs ascend and do not overlap', () => {
    for (const { choices, policy } of programs) {
      for (const { runs, hbmTokens, dramTokens, length } of Object.values(choices).flat()) {
        let end = 0;
        for (const { from, count, slot, place, form } of runs) {
          expect(from, policy).toBeGreaterThanOrEqual(end);
          end = from + count;
          expect(slot + count).toBeLessThanOrEqual((place === 'hbm' ? hbmTokens : dramTokens)[form]);
        }
        expect(end).toBeLessThanOrEqual(length);
      }
    }
  });

  it('covers only the layers that are asked for, and starts from nothing', () => {
    for (const { operations } of programs) {
      expect(Math.max(...operations.map(({ layer }) => layer))).toBe(3);
      operations.forEach(({ after }, at) => {
        expect(after.every((id) => id >= 0 && id < at)).toBe(true);
      });
    }
  });

  it('says what the choice of an evicting policy is: everything that lives, packed', () => {
    const snapkv = programs[2];
    for (const { runs, hbmTokens } of Object.values(snapkv.choices).flat())
      expect(tokensOf(runs, 'hbm')).toBe(hbmTokens[0]);
  });
});
