/** The source file of a preset that a fit gives: a table of profiles, one line a KV head. */
import type { ModelFit } from '../../traces/attention/statistics/model-fit.ts';

/** `origin`: prompts that it was fitted on, for the file's first comment. */
export function presetSource(fit: ModelFit, origin: string): string {
  const { name, layers, heads, kvHeads, headDim, ropeTheta, profiles } = fit;
  const shape = `{ layers: ${layers}, heads: ${heads}, kvHeads: ${kvHeads}, headDim: ${headDim}, ropeTheta: ${ropeTheta} }`;
  return [
    '/**',
    ` * ${name}: the profile of each KV head, layer by layer, as docs/synthetic-attention.md describes.`,
    ` * Written by validate/attention/fit, not by hand. Fitted on ${origin}.`,
    ' */',
    "import { fittedPreset } from './fitted.ts';",
    '',
    'const profiles = [',
    ...profiles.map((line) => `  '${line}',`),
    '];',
    '',
    'export const preset = fittedPreset(',
    `  '${name}',`,
    `  ${shape},`,
    '  profiles,',
    ');',
    '',
  ].join('\n');
}
