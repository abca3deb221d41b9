/** Llama-3.1-8B: its own per-head statistics. Shape from the model's config.json (32 layers, 32/8 heads of 128). */
import { llama31Statistics } from '../statistics/llama-3.1-8b.ts';
import { defaultClasses, defaultKeys, defaultText, targetOf } from './defaults.ts';
import type { SyntheticPreset } from './preset.ts';

export const preset = {
  name: 'llama-3.1-8b',
  shape: { layers: 32, heads: 32, kvHeads: 8, headDim: 128, ropeTheta: 500000 },
  text: defaultText,
  keys: defaultKeys,
  classes: defaultClasses,
  target: (_, layer, kvHead, random) => targetOf(llama31Statistics[layer][kvHead], layer, random),
} satisfies SyntheticPreset;
