/** Traces as `kvtier trace` gets them: a file on disk, or the generator for a model of the catalog. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import type { ModelShape } from '../sim/model/shape.ts';
import type { AttentionTrace } from '../sim/trace/attention-trace.ts';
import { type AttentionMetadata, attentionFormat } from '../traces/attention/metadata.ts';
import { type AttentionFile, openAttentionFile } from '../traces/attention/node-file.ts';
import { createSyntheticTrace } from '../traces/attention/synthetic.ts';
import { modelOfFlag } from './model-flag.ts';
import { UsageError } from './verb.ts';

export interface SyntheticFlags {
  readonly synthetic: string;
  readonly task?: string | undefined;
  readonly context?: number | undefined;
  readonly seed: number;
}

export interface SyntheticSource {
  readonly trace: AttentionTrace;
  readonly model: ModelShape;
  readonly spec: Readonly<Record<string, unknown>>;
}

const DEFAULT_CONTEXT_TOKENS = 32768;

/** The generator for `--synthetic`; `layers` undefined = all. */
export const syntheticSource = (
  { synthetic, task, context, seed }: SyntheticFlags,
  steps: number,
  layers?: readonly number[],
): SyntheticSource => {
  const { shape: model } = modelOfFlag(synthetic, 'synthetic');
  const promptTokens = context ?? DEFAULT_CONTEXT_TOKENS;
  const beyond = layers?.find((layer) => layer >= model.layers);
  if (beyond !== undefined)
    throw new UsageError(`--layers ${beyond}: expected layers below ${model.layers} of ${model.name}`);
  const { headDim, heads, kvHeads, ropeTheta } = model;
  const spec = {
    preset: model.name,
    shape: { layers: model.layers, heads, kvHeads, headDim, ropeTheta },
    promptTokens,
    steps,
    seed,
    ...(task === undefined ? {} : { task }),
    ...(layers === undefined ? {} : { recordedLayers: [...new Set(layers)].sort((a, b) => a - b) }),
  };
  return { trace: createSyntheticTrace(spec), model, spec };
};

/** Opens a trace file; one line when it is not there or is none. */
export const openTrace = (path: string): AttentionFile => {
  if (!existsSync(path)) throw new UsageError(`${path}: no such file`);
  return openAttentionFile(path);
};

/** What the layers of a model attend to: a window's tokens, or null for everything. */
export const windowsOfModel =
  ({ layerKinds, slidingWindowTokens }: ModelShape) =>
  (layer: number): number | null =>
    layerKinds[layer] === 'sliding' ? slidingWindowTokens : null;

export const windowsOfFile =
  ({ metadata }: AttentionFile) =>
  (layer: number): number | null =>
    metadata.model.slidingLayers.includes(layer) ? (metadata.model.slidingWindowTokens ?? null) : null;

/** A model of the catalog in the words of a trace's metadata. */
export const modelMetadata = (model: ModelShape, source: string): AttentionMetadata['model'] => ({
  name: model.name,
  source,
  architecture: model.architecture,
  layers: model.layers,
  heads: model.heads,
  kvHeads: model.kvHeads,
  headDim: model.headDim,
  hidden: model.hidden,
  intermediate: model.intermediate,
  vocab: model.vocab,
  maxContextTokens: model.maxContextTokens,
  slidingWindowTokens: model.slidingWindowTokens,
  slidingLayers: model.layerKinds.flatMap((kind, layer) => (kind === 'sliding' ? [layer] : [])),
  ...(model.mla === null ? {} : { latent: model.mla }),
});

/** The metadata of a file with what a synthetic trace holds. */
export const syntheticMetadata = ({ trace, model, spec }: SyntheticSource): AttentionMetadata => {
  const { promptTokens, steps, recordedLayers } = trace.shape;
  return {
    format: attentionFormat,
    model: modelMetadata(model, `synthetic attention, preset ${model.name}`),
    rope: { theta: model.ropeTheta, scaling: null, dim: model.headDim },
    promptTokens,
    steps,
    recordedLayers: [...recordedLayers],
    fields: ['k', 'v', 'q', 'qprompt'],
    promptWindowTokens: trace.promptQueries(recordedLayers[0], 0).windowTokens,
    provenance: { tool: 'kvtier trace generate', spec, generatedDigest: trace.digest },
    text: {},
  };
};

export const nameOf = (path: string): string => basename(path);
