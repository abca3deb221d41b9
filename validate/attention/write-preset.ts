/** The source file of a preset that a fit gives: a table of profiles, one line a KV head, and a line a task. */
import type { FittedTables, TaskTable } from '../../traces/attention/presets/fitted.ts';

const tableSource = ({ questionTokens, evidencePlace, attended }: TaskTable): string =>
  `{ questionTokens: ${questionTokens}, evidencePlace: ${evidencePlace.toFixed(3)}, attended: '${attended}' }`;

/** `origin`: prompts that it was fitted on, for the file's first comment. */
export function presetSource({ name, shape, profiles, mean, tasks }: FittedTables, origin: string): string {
  const { layers, heads, kvHeads, headDim, ropeTheta } = shape;
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
    `const mean = ${tableSource(mean)};`,
    '',
    'const tasks = {',
    ...Object.entries(tasks).map(([task, table]) => `  '${task}': ${tableSource(table)},`),
    '};',
    '',
    'export const preset = fittedPreset({',
    `  name: '${name}',`,
    `  shape: { layers: ${layers}, heads: ${heads}, kvHeads: ${kvHeads}, headDim: ${headDim}, ropeTheta: ${ropeTheta} },`,
    '  profiles,',
    '  mean,',
    '  tasks,',
    '});',
    '',
  ].join('\n');
}
