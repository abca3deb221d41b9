/**
 * Raw samples of a validation: every case's program and what was measured of it, so that any later model can be held to
 * the same evidence without the machine.
 */
import * as z from 'zod';
import { readGzipJson, writeGzipJson } from '../gzip-json.ts';
import { machineSchema, operationSchema } from '../samples.ts';

const VALIDATION_SAMPLES_FORMAT = 'kvtier.validation-samples/1';

const bytesSchema = z.object({ hbm: z.number(), h2d: z.number(), d2h: z.number(), dram: z.number() });

const caseSchema = z.object({
  policy: z.string(),
  model: z.string(),
  context: z.int(),
  batch: z.int(),
  budget: z.number().nullable(),
  /** Layers that were executed, and those of the model. */
  layers: z.int(),
  modelLayers: z.int(),
  operations: z.array(operationSchema),
  /** Times of the whole step, ns, one list a round of the suite. */
  rounds: z.array(z.array(z.number().positive()).min(1)).min(1),
  /** Per operation that had a call: position, start and end within the step, ns, calls timed one by one. */
  operationNs: z.array(z.tuple([z.int(), z.number(), z.number()])),
  graph: z.boolean(),
  calls: z.int(),
  bytes: bytesSchema,
  outputError: z.number().nullable(),
  outputNote: z.string().nullable(),
  jaccard: z.number().nullable(),
  standIns: z.array(z.object({ what: z.string(), count: z.int() })),
});

export type CaseSamples = z.infer<typeof caseSchema>;

const fileSchema = z.object({
  format: z.literal(VALIDATION_SAMPLES_FORMAT),
  machine: machineSchema,
  /** Clocks, temperature and power before and after each round. */
  senses: z.array(z.record(z.string(), z.number())),
  cases: z.array(caseSchema),
  /** Cases that could not run, each with one line that says why. */
  refused: z.array(z.object({ policy: z.string(), context: z.int(), batch: z.int(), reason: z.string() })),
});

export type ValidationSamples = z.infer<typeof fileSchema>;

/** Throws SimError 'invalid-input' with file, field and expectation. */
export const readValidationSamples = (path: string): ValidationSamples =>
  readGzipJson(path, fileSchema, 'validation samples');

export const writeValidationSamples = (path: string, samples: ValidationSamples): void =>
  writeGzipJson(path, samples);
