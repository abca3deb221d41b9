/**
 * Any other model: each head takes the statistics of a head drawn from Llama-3.1-8B at the same relative depth, since
 * that is the model with published per-head concentration. Only the shape is the model's own.
 */
import { llama31Statistics } from '../statistics/llama-3.1-8b.ts';
import { defaultClasses, defaultKeys, defaultText, targetOf } from './defaults.ts';
import type { SyntheticPreset } from './preset.ts';

export const generic = {
  name: 'generic',
  shape: null,
  text: defaultText,
  keys: defaultKeys,
  classes: defaultClasses,
  target(shape, layer, _, random) {
    const row = llama31Statistics[Math.floor((layer * llama31Statistics.length) / shape.layers)];
    return targetOf(row[random.integer(row.length)], layer, random);
  },
} satisfies SyntheticPreset;
