/** Whatever a model is called by, the same attention is generated and the same model timed; as a trace's file says, too. */
import { expect, test } from 'vitest';
import { loadModel } from '../sim/model/models.ts';
import { checkAttentionMetadata } from '../traces/attention/metadata.ts';
import { configOfTrace } from '../traces/attention/model-config.ts';
import { setUpCompare } from './compare-setup.ts';
import { choosePolicies } from './policy-choices.ts';
import { modelMetadata } from './trace-source.ts';

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

/** What a file of a model's trace says, as it is read. */
const fileOf = (model: object) =>
  checkAttentionMetadata(
    {
      format: 'kvtier.attention/1',
      model,
      promptTokens: 8,
      steps: 1,
      recordedLayers: [0],
      fields: ['k', 'q'],
    },
    'mine.safetensors',
  );

test('a model of latent attention in no catalog is timed by its latent rows, as its trace says', () => {
  const { name: _, ...deepseek } = loadModel('deepseek-v3');
  const said = modelMetadata({ ...deepseek, name: 'mine' }, 'my engine');
  const { attention, mla, kvRowElements, headDim, valueHeadDim } = deepseek;
  expect(loadModel(configOfTrace(fileOf(said)).config)).toMatchObject({
    name: 'mine',
    attention,
    mla,
    kvRowElements,
    headDim,
    valueHeadDim,
  });
  expect(() => fileOf({ ...said, headDim: 512 })).toThrow(
    'mine.safetensors: metadata.model.headDim: expected 576, latentRank + ropeHeadDim, found 512',
  );
});
