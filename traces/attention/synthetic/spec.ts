/**
 * What a synthetic attention trace depends on, all of it: a preset's name, the model's shape, lengths and a seed.
 * The same specification gives the same trace on every machine.
 */
import * as z from 'zod';
import { TraceError } from '../../error.ts';
import { generic } from '../presets/generic.ts';
import type { SyntheticPreset, SyntheticShape } from '../presets/preset.ts';
import { catalog } from '../presets.generated.ts';

const presets: readonly SyntheticPreset[] = Object.values(catalog);

/** Tasks that a preset knows; those of the generic one where no preset has the name. */
export const presetTasks = (name: string): readonly string[] =>
  (presets.find((preset) => preset.name === name) ?? generic).tasks;

export const syntheticSpecSchema = z.strictObject({
  preset: z.string().min(1).default('llama-3.1-8b').describe('model whose attention is imitated'),
  task: z
    .string()
    .min(1)
    .optional()
    .describe('what the prompt asks for; default the mean of the known tasks'),
  shape: z
    .strictObject({
      layers: z.int().min(1),
      heads: z.int().min(1),
      kvHeads: z.int().min(1),
      headDim: z.int().min(4).max(1024).multipleOf(2),
      ropeTheta: z.number().min(2).default(10000),
    })
    .optional()
    .describe("the model's shape; needed where no preset of that name knows it"),
  promptTokens: z.int().min(1).max(4_194_304).describe('tokens of the prompt'),
  steps: z.int().min(1).max(1_000_000).default(64).describe('decode steps'),
  seed: z.int().min(0).default(1).describe('seed of everything that is drawn'),
  recordedLayers: z.array(z.int().min(0)).min(1).optional().describe('layers with keys; default all'),
});

export type SyntheticSpec = z.input<typeof syntheticSpecSchema>;

export interface ResolvedSpec {
  readonly preset: SyntheticPreset;
  readonly model: string;
  readonly task: string | null;
  readonly shape: SyntheticShape;
  readonly promptTokens: number;
  readonly steps: number;
  readonly seed: number;
  readonly recordedLayers: readonly number[];
}

/** Fills every default; throws TraceError `invalid-input` naming the field. */
export function resolveSpec(input: SyntheticSpec): ResolvedSpec {
  const result = syntheticSpecSchema.safeParse(input);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw invalid([...issue.path.map(String)].join('.') || 'specification', issue.message, result.error);
  }
  const { preset: model, promptTokens, steps, seed, ...rest } = result.data;
  const named = presets.find(({ name }) => name === model);
  const shape = rest.shape ?? named?.shape;
  if (!shape) {
    const known = presets.map(({ name }) => name).join(', ');
    throw invalid('shape', `expected with preset "${model}" (presets that know their shape: ${known})`);
  }
  if (shape.heads % shape.kvHeads !== 0)
    throw invalid('shape.heads', `expected a multiple of ${shape.kvHeads}`);
  const layers = rest.recordedLayers ?? Array.from({ length: shape.layers }, (_, layer) => layer);
  const recordedLayers = [...new Set(layers)].sort((a, b) => a - b);
  const last = recordedLayers[recordedLayers.length - 1];
  if (last >= shape.layers)
    throw invalid('recordedLayers', `expected layers below ${shape.layers}, found ${last}`);
  // A model's own statistics fit only its own shape: a variant of it takes the generic way.
  const fits = named?.shape?.layers === shape.layers && named.shape.kvHeads === shape.kvHeads;
  const preset: SyntheticPreset = named && fits ? named : generic;
  const task = rest.task ?? null;
  if (task !== null && !preset.tasks.includes(task))
    throw invalid('task', `expected one of ${preset.tasks.join(', ')}, found "${task}"`);
  return { preset, model, task, shape, promptTokens, steps, seed, recordedLayers };
}

function invalid(field: string, expectation: string, cause?: unknown): TraceError {
  const options = cause === undefined ? undefined : { cause };
  return new TraceError('invalid-input', `synthetic trace: ${field}: ${expectation}`, options);
}
