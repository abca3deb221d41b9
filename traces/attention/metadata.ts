/**
 * The metadata of a `kvtier.attention/1` file: one JSON document under the key `kvtier` of the safetensors metadata
 * map. It says which model, what was recorded and where it came from; the reader holds every tensor against it.
 */
import * as z from 'zod';
import { traceFields } from '../../sim/trace/attention-trace.ts';
import { TraceError } from '../error.ts';

export const attentionFormat = 'kvtier.attention/1';

const count = z.int().min(1);
/** Layers and heads that a run can hold in memory, and many times what models have, as in sim/model/config.ts. */
const layerCount = count.max(4096);
const headCount = count.max(4096);
const layerList = z.array(z.int().min(0));
const freeMap = z.record(z.string(), z.unknown());

const attentionMetadataSchema = z.object({
  format: z.literal(attentionFormat),
  model: z.object({
    name: z.string().min(1),
    source: z.string().default(''),
    architecture: z.string().default(''),
    layers: layerCount,
    heads: headCount,
    kvHeads: headCount,
    headDim: count,
    hidden: count.optional(),
    /** Width of the MLP; lets a model that is in no catalog be timed whole. */
    intermediate: count.optional(),
    vocab: count.optional(),
    maxContextTokens: count.nullish(),
    slidingWindowTokens: count.nullish(),
    slidingLayers: layerList.default([]),
    /** Multi-head latent attention, whose one cached row of latentRank + ropeHeadDim serves all heads; as LatentAttention. */
    latent: z
      .object({
        queryRank: count.nullable(),
        latentRank: count,
        ropeHeadDim: count,
        nopeHeadDim: count,
        upValueHeadDim: count,
      })
      .optional(),
  }),
  rope: z.object({ theta: z.number().positive(), scaling: z.unknown(), dim: count }).nullish(),
  promptTokens: count,
  steps: z.int().min(0),
  recordedLayers: layerList.min(1),
  fields: z.array(z.enum(traceFields)).min(1),
  /** How integer tensors were coded; free, since the dtypes and `.scale` tensors already say it exactly. */
  quantisation: freeMap.optional(),
  /** W of `qprompt` [W, heads, headDim]; required with that field. */
  promptWindowTokens: count.nullish(),
  /** Tokens of a block of `mass` [steps, kvHeads, blocks]; required with that field. */
  massBlockTokens: count.nullish(),
  provenance: freeMap.default({}),
  text: freeMap.default({}),
});

export type AttentionMetadata = z.infer<typeof attentionMetadataSchema>;

/** Reads the `kvtier` entry of the metadata map; throws TraceError naming the file, the field and the expectation. */
export function parseAttentionMetadata(map: ReadonlyMap<string, string>, file: string): AttentionMetadata {
  const text = map.get('kvtier');
  if (text === undefined) {
    throw new TraceError('missing', `${file}: __metadata__.kvtier: expected the ${attentionFormat} metadata`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new TraceError('malformed', `${file}: __metadata__.kvtier: expected valid JSON`, { cause });
  }
  return checkAttentionMetadata(json, file);
}

/** Validates metadata that is already an object, as the writer does before a byte is written. */
export function checkAttentionMetadata(json: unknown, file: string): AttentionMetadata {
  const format = typeof json === 'object' && json !== null && 'format' in json ? json.format : undefined;
  if (typeof format === 'string' && format !== attentionFormat) {
    const found = JSON.stringify(format.slice(0, 60));
    throw new TraceError(
      'not-supported',
      `${file}: metadata.format: expected "${attentionFormat}", found ${found}`,
    );
  }
  const result = attentionMetadataSchema.safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    const field = ['metadata', ...issue.path.map(String)].join('.');
    throw new TraceError('malformed', `${file}: ${field}: ${issue.message}`, { cause: result.error });
  }
  checkConsistency(result.data, file);
  return result.data;
}

function checkConsistency(metadata: AttentionMetadata, file: string): void {
  const { model, recordedLayers, fields, promptWindowTokens, promptTokens, steps, massBlockTokens } =
    metadata;
  const expect = (holds: boolean, field: string, expectation: string): void => {
    if (!holds) throw new TraceError('contradiction', `${file}: metadata.${field}: expected ${expectation}`);
  };
  expect(
    model.heads % model.kvHeads === 0,
    'model.heads',
    `a multiple of kvHeads ${model.kvHeads}, found ${model.heads}`,
  );
  const { latent } = model;
  if (latent !== undefined) {
    const width = latent.latentRank + latent.ropeHeadDim;
    expect(model.kvHeads === 1, 'model.kvHeads', `1 with model.latent, found ${model.kvHeads}`);
    expect(
      model.headDim === width,
      'model.headDim',
      `${width}, latentRank + ropeHeadDim, found ${model.headDim}`,
    );
  }
  expect(
    recordedLayers.every((layer, i) => i === 0 || layer > recordedLayers[i - 1]),
    'recordedLayers',
    'ascending layers, each once',
  );
  const last = recordedLayers[recordedLayers.length - 1];
  expect(last < model.layers, 'recordedLayers', `layers below model.layers ${model.layers}, found ${last}`);
  expect(new Set(fields).size === fields.length, 'fields', 'each field once');
  expect(!fields.includes('q') || steps > 0, 'steps', 'at least 1 with the field q, found 0');
  if (fields.includes('mass')) {
    expect(steps > 0, 'steps', 'at least 1 with the field mass, found 0');
    expect(
      (massBlockTokens ?? 0) >= 1,
      'massBlockTokens',
      'tokens of a block with the field mass, found none',
    );
  }
  if (fields.includes('qprompt')) {
    const window = promptWindowTokens ?? 0;
    expect(
      window >= 1 && window <= promptTokens,
      'promptWindowTokens',
      `1..promptTokens with the field qprompt, found ${promptWindowTokens ?? 'none'}`,
    );
  }
}
