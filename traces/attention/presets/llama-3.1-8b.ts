/**
 * Llama-3.1-8B: the published concentration of each of its heads, on the geometry of measured heads of other models.
 * Shape from the model's config.json (32 layers, 32/8 heads of 128).
 */
import { llama31Statistics } from '../statistics/llama-3.1-8b.ts';
import type { SyntheticPreset } from './preset.ts';
import { donorTasks, donorText, planFrom } from './transplant.ts';

export const preset = {
  name: 'llama-3.1-8b',
  shape: { layers: 32, heads: 32, kvHeads: 8, headDim: 128, ropeTheta: 500000 },
  tasks: donorTasks,
  text: donorText,
  plan: (shape, layer, kvHead, random, task) =>
    planFrom(llama31Statistics[layer][kvHead], shape, layer, random, task),
} satisfies SyntheticPreset;
