/**
 * Any other model: each head takes the published concentration of a head drawn from Llama-3.1-8B at the same relative
 * depth, since that is the model with such numbers, on the geometry of a measured head. Only the shape is its own.
 */
import { llama31Statistics } from '../statistics/llama-3.1-8b.ts';
import type { SyntheticPreset } from './preset.ts';
import { donorTasks, donorText, planFrom } from './transplant.ts';

export const generic = {
  name: 'generic',
  shape: null,
  tasks: donorTasks,
  text: donorText,
  plan(shape, layer, _, random, task) {
    const row = llama31Statistics[Math.floor((layer * llama31Statistics.length) / shape.layers)];
    return planFrom(row[random.integer(row.length)], shape, layer, random, task);
  },
} satisfies SyntheticPreset;
