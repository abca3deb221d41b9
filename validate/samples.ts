/**
 * Raw samples of a machine: what was measured, beside the operations that it measures, so that any model can be held to
 * them later without the machine. One file holds calibration sites or validation cases; gzip JSON.
 */
import * as z from 'zod';
import type { Operation } from '../sim/program/operation.ts';
import { readGzipJson, writeGzipJson } from './gzip-json.ts';

export const SAMPLES_FORMAT = 'kvtier.samples/1';

/** The program builder made it; a file is trusted in the fields that predictions read. */
export const operationSchema = z.custom<Operation>(
  (value) => typeof value === 'object' && value !== null && 'kind' in value && 'stream' in value,
);

/** The machine that was measured, and what of it was emulated. */
export const machineSchema = z.object({
  backend: z.string(),
  name: z.string(),
  driver: z.string(),
  runtime: z.string(),
  units: z.number(),
  /** Cache before hbm, and memory of each tier; 0 or absent where nobody knows. */
  l2Bytes: z.number().optional(),
  hbmBytes: z.number().optional(),
  dramBytes: z.number().optional(),
  /** Clusters of 1, 2, … blocks of a multiprocessor each that run at once. */
  clusters: z.array(z.int().nonnegative()).optional(),
  date: z.string(),
  emulated: z.array(z.string()),
});

const siteSchema = z.object({
  /** Microbenchmark that the site belongs to, and the site's own name within it. */
  benchmark: z.string(),
  id: z.string(),
  /** What was timed, as a program; the time of one pass through it. Empty: the time is a quantity itself. */
  operations: z.array(operationSchema),
  /** Quantity of the profile that the time (or the rate, with `readingBytes`) is, where no law predicts it. */
  reading: z.string().optional(),
  readingBytes: z.number().optional(),
  /** Median time of one pass, ns, of each restart. */
  restartNs: z.array(z.number().positive()),
  /** Time of each repeat of each restart, ns. */
  samplesNs: z.array(z.array(z.number().positive())),
});

export type SiteSamples = z.infer<typeof siteSchema>;

const samplesSchema = z.object({
  format: z.literal(SAMPLES_FORMAT),
  machine: machineSchema,
  /** Clocks, temperature and power before and after each block of measurements. */
  senses: z.array(z.record(z.string(), z.number())),
  sites: z.array(siteSchema),
});

export type Samples = z.infer<typeof samplesSchema>;

/** Median of a list, which is not changed. */
export const medianOf = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/**
 * Time of one pass, ns: that of the median restart. Within one, the quieter of two visits counts where others slow a host
 * down, as the quieter of two rounds does of a step. The quietest of all would be the luck of six tries of each site by
 * itself, which no step has with all of its operations at once: host threads' steps were predicted 3 to 8 % shorter by it.
 */
export const measuredNs = ({ restartNs }: SiteSamples): number => medianOf(restartNs);

/** Reads a samples file. Throws SimError 'invalid-input' with file, field and expectation. */
export const readSamples = (path: string): Samples => readGzipJson(path, samplesSchema, 'samples');

/** Writes whole or not at all. */
export const writeSamples = (path: string, samples: Samples): void => writeGzipJson(path, samples);
