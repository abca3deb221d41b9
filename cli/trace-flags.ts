/**
 * Flags of `kvtier trace`, for its three actions together: what each action takes, and how layers are written. A flag
 * that the action has no use for is refused, so that a typing error never goes unnoticed.
 */
import * as z from 'zod';
import { kebabCase } from './flags.ts';
import { UsageError } from './verb.ts';

const ACTIONS = ['inspect', 'convert', 'generate'] as const;
type Action = (typeof ACTIONS)[number];

export const traceFlags = z.object({
  action: z.enum(ACTIONS).describe('inspect FILE (default: the shipped sample); generate; convert IN OUT'),
  files: z
    .array(z.string().min(1))
    .default([])
    .describe('.safetensors traces, .parquet tables of block mass'),
  synthetic: z
    .string()
    .optional()
    .describe('inspect, generate: the attention of this model (a catalog name, or its config.json)'),
  task: z
    .string()
    .optional()
    .describe('with --synthetic: needle, multi-hop, code, kv-retrieval, dialogue or long-generation'),
  context: z
    .int()
    .min(1)
    .optional()
    .meta({ suffix: true })
    .describe('prompt tokens; with --synthetic, default 32K; convert: of a table that does not say it'),
  steps: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .meta({ suffix: true })
    .describe('inspect: decode steps to look at, default up to 16; generate: decode steps, default 64'),
  layers: z
    .string()
    .optional()
    .describe('auto (a seeded sample; inspect only), all, or a list such as 2,5,11'),
  seed: z.int().min(0).default(1).describe('seed of the generator and of sampling'),
  dtype: z.enum(['F16', 'F32']).optional().describe('generate: type of the tensors; default F16'),
  blockTokens: z
    .int()
    .min(1)
    .max(1_048_576)
    .optional()
    .meta({ suffix: true })
    .describe("convert: tokens of a block; default 128, or the trace's own"),
  detail: z
    .boolean()
    .default(false)
    .describe("convert to .parquet: add each block's top1Share and entropy (bits)"),
  model: z.string().optional().describe('convert: model of a table that does not say it'),
  out: z.string().optional().describe('inspect: folder for result.json and inspect.html; generate: the file'),
  force: z.boolean().default(false).describe('generate, convert: replace a file that exists'),
});

export type TraceFlags = z.infer<typeof traceFlags>;
type Field = keyof TraceFlags;

const USES: Readonly<Record<Action, readonly Field[]>> = {
  inspect: ['synthetic', 'task', 'context', 'steps', 'layers', 'out'],
  generate: ['synthetic', 'task', 'context', 'steps', 'layers', 'dtype', 'out', 'force'],
  convert: ['context', 'layers', 'blockTokens', 'detail', 'model', 'force'],
};
const COMMON: readonly string[] = ['action', 'files', 'seed'];

/** Throws UsageError on the first flag that the action does not take. */
export const checkUses = (given: TraceFlags): void => {
  const allowed: readonly string[] = USES[given.action];
  for (const [field, value] of Object.entries(given)) {
    if (value === undefined || value === false || COMMON.includes(field) || allowed.includes(field)) continue;
    const list = allowed.map((name) => `--${kebabCase(name)}`).join(', ');
    throw new UsageError(
      `--${kebabCase(field)}: has no meaning with trace ${given.action}, which takes ${list}`,
    );
  }
};

/** `auto`, `all`, or a list of layers. */
export const parseLayers = (text: string): 'auto' | 'all' | readonly number[] => {
  if (text === 'auto' || text === 'all') return text;
  const list = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (list.every((layer) => Number.isInteger(layer) && layer >= 0)) return list;
  throw new UsageError(`--layers ${text}: expected auto, all, or a list of layers such as 2,5,11`);
};

/** A list of layers; undefined = all. For actions that sample nothing. */
export const parseLayerList = (text: string | undefined): readonly number[] | undefined => {
  const layers = parseLayers(text ?? 'all');
  if (layers === 'auto')
    throw new UsageError('--layers auto: expected all, or a list of layers such as 2,5,11');
  return layers === 'all' ? undefined : layers;
};
