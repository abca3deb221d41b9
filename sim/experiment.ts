/**
 * Everything that a compare run depends on, fully resolved: two runs of the same experiment have the same digest in
 * Node, in a worker and in the page. Names point into the catalogs; anything else is carried whole.
 */
import * as z from 'zod';

const layerChoice = z.union([z.literal('auto'), z.literal('all'), z.array(z.int().min(0)).min(1)]);

/** Where the attention comes from: a file (known by its digest) or the seeded generator. */
export const traceSourceSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('file'), name: z.string(), digest: z.string() }),
  z.object({ kind: z.literal('synthetic'), preset: z.string(), spec: z.record(z.string(), z.unknown()) }),
]);

const policyChoiceSchema = z.object({
  /** What the result calls it: the name, or the name with its parameters when one policy runs twice. */
  label: z.string(),
  name: z.string(),
  /** Every parameter with its default filled in. */
  config: z.record(z.string(), z.unknown()),
});

export const compareExperimentSchema = z.object({
  trace: traceSourceSchema,
  /** A catalog name, or a parsed Hugging Face config.json. */
  model: z.union([z.string(), z.record(z.string(), z.unknown())]),
  /** A catalog name, or a parsed profile. */
  hardware: z.union([z.string(), z.record(z.string(), z.unknown())]),
  stack: z.union([z.string(), z.record(z.string(), z.unknown())]),
  policies: z.array(policyChoiceSchema).min(1),
  /** Prompt tokens in the cache when decoding starts. */
  contextTokens: z.int().min(1),
  steps: z.int().min(1),
  batch: z.int().min(1),
  /** False leaves out projections, MLP, output head and their weights. */
  dense: z.boolean(),
  /** Bytes of one KV, weight and activation element as computed with. */
  elementBytes: z.number().positive(),
  layers: layerChoice,
  kvHeads: layerChoice,
  seed: z.int(),
});

export type CompareExperiment = z.infer<typeof compareExperimentSchema>;
export type PolicyChoice = z.infer<typeof policyChoiceSchema>;
