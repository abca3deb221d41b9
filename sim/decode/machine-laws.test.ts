/**
 * What a better machine or a larger batch may do to a whole run, whatever the policy: faster memories, links and cores
 * never make it longer, bytes do not know the machine, and each sequence of a batch moves as many.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { plugins, policyOrNull, smallDefaults, worldOf } from '../../test/policy-cases.ts';
import { standard } from '../../test/policy-laws.ts';
import { compareExperimentSchema } from '../experiment.ts';
import { loadProfile, profileNames, stackNames } from '../hardware/load.ts';
import type { Profile } from '../hardware/schema.ts';
import type { PolicyResult } from '../result.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { prepare, type TimingChoice } from './compare.ts';

const STEPS = 4;
const shape = { ...standard, recordedLayers: [1, 2], steps: STEPS };
const model = {
  model_type: 'llama',
  hidden_size: 256,
  intermediate_size: 1024,
  num_hidden_layers: shape.layers,
  num_attention_heads: shape.heads,
  num_key_value_heads: shape.kvHeads,
  head_dim: shape.headDim,
  vocab_size: 1000,
  max_position_embeddings: 4096,
};

const policies = plugins.flatMap((plugin) => {
  const config = smallDefaults(plugin);
  return policyOrNull(plugin, config, worldOf(shape)) === null
    ? []
    : [{ label: plugin.name, name: plugin.name, config }];
});

const time = prepare({
  experiment: compareExperimentSchema.parse({
    trace: { kind: 'file', name: 'random', digest: 'none' },
    model,
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies,
    contextTokens: shape.promptTokens,
    steps: STEPS,
    batch: 1,
    dense: true,
    elementBytes: 2,
    layers: [1, 2],
    kvHeads: 'all',
    seed: 1,
  }),
  trace: createRandomTrace({ shape, seed: 1 }),
});
const resultsOf = (choice: TimingChoice): readonly PolicyResult[] => time(choice).result.policies;

/** From the prompt to the last token: a shorter prompt leaves more of its work to the steps. */
const runNs = ({ prefillNs, stepNs }: PolicyResult): number => prefillNs + STEPS * stepNs.mean;

/** Rates of a part of a machine, as paths into its profile; those that a profile lacks stay. */
const PARTS = {
  hbm: ['peakBytesPerNs', 'achievedBytesPerNs', 'copyBytesPerNs'].map((name) => `accelerator.hbm.${name}`),
  link: [
    ...['peak', 'h2d', 'd2h', 'hostSum'].map((name) => `link.${name}BytesPerNs`),
    ...['pageable.h2dBytesPerNs', 'pageable.d2hBytesPerNs', 'uva.bytesPerNs'].map((name) => `link.${name}`),
  ],
  dram: ['peak', 'read', 'mixed'].map((name) => `host.dram.${name}BytesPerNs`),
  compute: ['bf16', 'fp16', 'fp32', 'fp8', 'int8'].flatMap((type) =>
    ['peakTflops', 'achievedTflops'].map((name) => `accelerator.compute.${type}.${name}`),
  ),
} as const;

const faster = (profile: Profile, paths: readonly string[], factor: number): Profile => {
  const copy = structuredClone(profile);
  for (const path of paths) {
    const found = path
      .split('.')
      .reduce<unknown>((at, key) => (at === undefined ? at : (at as Record<string, unknown>)[key]), copy);
    if (found !== undefined) (found as { value: number }).value *= factor;
  }
  return copy;
};

const anyMachine = fc.record({
  hardware: fc.constantFrom(...profileNames).map((name) => loadProfile(name)),
  stack: fc.constantFrom(...stackNames),
  batch: fc.constantFrom(1, 8, 128),
  dense: fc.boolean(),
});

/** What ends earlier may meet other work that it missed before, as in any schedule: 0.2 % were seen. */
const MEETING = 1.01;

test('a faster memory, link or processor never makes a run longer', () => {
  fc.assert(
    fc.property(
      anyMachine,
      fc.constantFrom(...(Object.keys(PARTS) as (keyof typeof PARTS)[])),
      fc.double({ min: 1.1, max: 8, noNaN: true }),
      (choice, part, factor) => {
        const before = resultsOf(choice);
        const after = resultsOf({ ...choice, hardware: faster(choice.hardware, PARTS[part], factor) });
        const longer = before.flatMap((one, at) =>
          runNs(after[at]) > MEETING * runNs(one)
            ? [`${one.policy}: ${runNs(one)} to ${runNs(after[at])}`]
            : [],
        );
        expect(longer, part).toEqual([]);
      },
    ),
    { seed: 42, numRuns: 12 },
  );
});

const bytesOf = ({ traffic }: PolicyResult, batch: number) =>
  ['dram->hbm', 'hbm->dram']
    .map((key) => (traffic[key] as { bytes?: number } | undefined)?.bytes ?? 0)
    .map((bytes) => bytes / batch);

test('bytes are the same on any machine, and a sequence moves as many in any batch', () => {
  const one = resultsOf({ hardware: 'h100-sxm', stack: 'flashinfer-graphs', batch: 1, dense: true });
  fc.assert(
    fc.property(anyMachine, (choice) => {
      resultsOf(choice).forEach((result, at) => {
        expect(bytesOf(result, choice.batch), result.policy).toEqual(bytesOf(one[at], 1));
      });
    }),
    { seed: 42, numRuns: 6 },
  );
});
