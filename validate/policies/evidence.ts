/**
 * Shipped evidence: recorded samples of machines, the frozen description that predicts them, and how well it did when it
 * was recorded. The model of today is held to all of them, so that no change can make it worse unnoticed.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { residualsOf } from '../fit/residuals.ts';
import { predictNs } from '../predict-site.ts';
import {
  microbenchFile,
  type Plan,
  type PlannedRecord,
  profileFile,
  samplesFile,
  stackFile,
} from '../record/plan.ts';
import { measuredNs, readSamples } from '../samples.ts';
import { evaluate, machineFor, type Validation } from './evaluate.ts';
import { readValidationSamples } from './samples.ts';

const recordSchema = z.object({
  name: z.string(),
  title: z.string(),
  /** File of this folder. */
  samples: z.string(),
  /** Files of this folder. */
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

/** A record before the model is held to it. */
type Unjudged = Omit<EvidenceRecord, 'microbenchMape' | 'mape' | 'p95Ape' | 'bias' | 'kendallTau'>;

export const readRecords = (folder: string): readonly EvidenceRecord[] =>
  z.array(recordSchema).parse(JSON.parse(readFileSync(join(folder, 'records.json'), 'utf8')));

const readJson = (folder: string, file: string): object =>
  JSON.parse(readFileSync(join(folder, file), 'utf8')) as object;

/** The record's samples judged by the model of today. */
export const judge = (folder: string, record: Unjudged): Validation =>
  evaluate(
    readValidationSamples(join(folder, record.samples)),
    machineFor(loadProfile(readJson(folder, record.hardware)), loadStack(readJson(folder, record.stack))),
  );

/** Mean error of the record's frozen description on all microbenchmarks that a law predicts; null without them. */
export const judgeMicrobench = (folder: string, { microbench, hardware, stack }: Unjudged): number | null => {
  if (microbench === undefined) return null;
  const machine = resolveMachine(loadProfile(readJson(folder, hardware)), loadStack(readJson(folder, stack)));
  const sites = readSamples(join(folder, microbench)).sites.filter(({ operations }) => operations.length > 0);
  return residualsOf(
    sites.map((site) => ({ predicted: predictNs(site.operations, machine), measured: measuredNs(site) })),
  ).mape;
};

const rounded = (value: number): number => Number(value.toFixed(4));

/** A record of the plan without its figures; the first of each machine's own profile has its microbenchmarks. */
const described = (
  { name, title, machine, set, carriedFrom }: PlannedRecord,
  at: number,
  records: Plan['records'],
): Unjudged => {
  const isFirst = records.findIndex((one) => one.machine === machine && one.carriedFrom === undefined) === at;
  return {
    name,
    title,
    samples: samplesFile(machine, set),
    hardware: profileFile(carriedFrom === undefined ? machine : name),
    stack: stackFile(carriedFrom ?? machine),
    profile: carriedFrom === undefined ? 'calibrated' : 'carried',
    ...(isFirst ? { microbench: microbenchFile(machine) } : {}),
  };
};

const judged = (folder: string, record: Unjudged): EvidenceRecord => {
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
};

/**
 * Writes what the model of today reaches as what later ones are held to. Records of the plan that nothing was measured for
 * yet are told and left out.
 */
export const writeRecords = (
  folder: string,
  plan: Plan,
  say: (line: string) => void,
): readonly EvidenceRecord[] => {
  const records = plan.records.map(described).flatMap((record) => {
    const lacking = [record.samples, record.hardware, record.stack].filter(
      (file) => !existsSync(join(folder, file)),
    );
    if (lacking.length === 0) return [judged(folder, record)];
    say(`${record.name} is left out: no ${lacking.join(', ')}`);
    return [];
  });
  const path = join(folder, 'records.json');
  writeFileSync(`${path}.new`, `${JSON.stringify(records, null, 2)}\n`);
  renameSync(`${path}.new`, path);
  return records;
};
