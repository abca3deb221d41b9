/**
 * Shipped evidence: recorded samples of machines, the frozen description that predicts them, and how well it did when it
 * was recorded. The model of today is held to all of them, so that no change can make it worse unnoticed.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { residualsOf } from '../fit/residuals.ts';
import { predictNs } from '../predict-site.ts';
import { measuredNs, readSamples } from '../samples.ts';
import { evaluate, machineFor, type Validation } from './evaluate.ts';
import { readValidationSamples } from './samples.ts';

const recordSchema = z.object({
  name: z.string(),
  title: z.string(),
  /** File of this folder. */
  samples: z.string(),
  /** A name of the catalog, or a file of this folder. */
  hardware: z.string(),
  stack: z.string(),
  /** `calibrated`: fitted on microbenchmarks of the same machine; `carried`: from its datasheet and another's utilisation. */
  profile: z.enum(['calibrated', 'carried']),
  /** Raw samples of the microbenchmarks that the profile was fitted on, a file of this folder, and its mean error on them. */
  microbench: z.string().optional(),
  microbenchMape: z.number().optional(),
  mape: z.number(),
  p95Ape: z.number(),
  bias: z.number(),
  kendallTau: z.number().nullable(),
});

export type EvidenceRecord = z.infer<typeof recordSchema>;

export const readRecords = (folder: string): readonly EvidenceRecord[] =>
  z.array(recordSchema).parse(JSON.parse(readFileSync(join(folder, 'records.json'), 'utf8')));

const nameOrFile = (folder: string, text: string): string | object => {
  const path = join(folder, text);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as object) : text;
};

/** The record's samples judged by the model of today. */
export const judge = (folder: string, record: EvidenceRecord): Validation =>
  evaluate(
    readValidationSamples(join(folder, record.samples)),
    machineFor(loadProfile(nameOrFile(folder, record.hardware)), loadStack(nameOrFile(folder, record.stack))),
  );

/** Mean error of the record's frozen description on all microbenchmarks that a law predicts; null without them. */
export const judgeMicrobench = (
  folder: string,
  { microbench, hardware, stack }: EvidenceRecord,
): number | null => {
  if (microbench === undefined) return null;
  const machine = resolveMachine(
    loadProfile(nameOrFile(folder, hardware)),
    loadStack(nameOrFile(folder, stack)),
  );
  const sites = readSamples(join(folder, microbench)).sites.filter(({ operations }) => operations.length > 0);
  return residualsOf(
    sites.map((site) => ({ predicted: predictNs(site.operations, machine), measured: measuredNs(site) })),
  ).mape;
};

const rounded = (value: number): number => Number(value.toFixed(4));

/** Writes what the model of today reaches as what later ones are held to. */
export const writeRecords = (folder: string): readonly EvidenceRecord[] => {
  const records = readRecords(folder).map((record): EvidenceRecord => {
    const { mape, p95Ape, bias, kendallTau } = judge(folder, record).summary;
    const microbenchMape = judgeMicrobench(folder, record);
    return {
      ...record,
      ...(microbenchMape === null ? {} : { microbenchMape: rounded(microbenchMape) }),
      mape: rounded(mape),
      p95Ape: rounded(p95Ape),
      bias: rounded(bias),
      kendallTau: kendallTau === null ? null : rounded(kendallTau),
    };
  });
  writeFileSync(join(folder, 'records.json'), `${JSON.stringify(records, null, 2)}\n`);
  return records;
};
