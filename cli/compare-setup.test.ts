/** Whatever a model is called by, the same attention is generated and the same model timed. */
import { expect, test } from 'vitest';
import { setUpCompare } from './compare-setup.ts';
import { choosePolicies } from './policy-choices.ts';

const flags = {
  hardware: 'h100-sxm',
  context: 64,
  steps: 1,
  batch: 1,
  dense: true,
  layers: 'auto',
  kvHeads: 'auto',
  seed: 1,
};
const presetOf = async (names: {
  readonly synthetic?: string;
  readonly model?: string;
}): Promise<unknown> => {
  const { experiment } = setUpCompare({ ...flags, ...names }, await choosePolicies(['full'], []));
  return experiment.trace.kind === 'synthetic' ? experiment.trace.preset : null;
};

test.each([
  [{ synthetic: 'smollm2-135m' }, 'smollm2-135m'],
  [{ synthetic: 'HuggingFaceTB/SmolLM2-135M-Instruct' }, 'smollm2-135m'],
  [{ model: 'Qwen/Qwen2.5-0.5B' }, 'qwen2.5-0.5b'],
  [{ synthetic: 'HuggingFaceTB/SmolLM2-135M', model: 'qwen2.5-0.5b' }, 'smollm2-135m'],
])('%j is generated in the manner of %s', async (names, preset) => {
  expect(await presetOf(names)).toBe(preset);
});
