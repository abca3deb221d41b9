/**
 * Any other model: each head takes the published concentration of a head drawn from Llama-3.1-8B at the same relative
 * depth, since that is the model with such numbers, on the geometry of a measured head. Only the shape is its own.
 */
import { llama31Statistics } from '../statistics/llama-3.1-8b.ts';
import { fittedText } from './fitted.ts';
import type { SyntheticPreset } from './preset.ts';
import { planFrom } from './transplant.ts';

export const generic = {
  name: 'generic',
  shape: null,
  text: fittedText,
  plan(shape, layer, _, random) {
    const row = llama31Statistics[Math.floor((layer * llama31Statistics.length) / shape.layers)];
    return planFrom(row[random.integer(row.length)], shape, layer, random);
  },
} satisfies SyntheticPreset;
