/**
 * Takes a recording into the evidence: joins its pieces, fits the machine's profile, carries it over where a record wants
 * that, and judges everything anew. The folder of evidence is replaced whole or left as it is.
 */
import { cpSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SimError } from '../../sim/error.ts';
import { type EvidenceRecord, writeRecords } from '../policies/evidence.ts';
import { readValidationSamples, writeValidationSamples } from '../policies/samples.ts';
import { readSamples, writeSamples } from '../samples.ts';
import { readCounters } from '../traffic/counters.ts';
import { JUDGED_COUNTERS_FILE, writeJudgedCounters } from '../traffic/judge.ts';
import { runVerb } from './command.ts';
import { joinCases, joinRestarts, type Piece } from './join.ts';
import {
  casesFile,
  countersFile,
  machineOf,
  microbenchFile,
  type Plan,
  profileFile,
  restartFile,
  samplesFile,
  setOf,
  setsOf,
} from './plan.ts';

type Say = (line: string) => void;

const piecesOf = <T>(paths: readonly string[], read: (path: string) => T): readonly Piece<T>[] =>
  paths.map((path) => ({ path, samples: read(path) }));

const takeRestarts = (plan: Plan, machine: string, folder: string, stage: string, say: Say): void => {
  const { restarts } = machineOf(plan, machine);
  const paths = Array.from({ length: restarts }, (_, at) => join(folder, restartFile(machine, at + 1)));
  const there = paths.filter((path) => existsSync(path));
  const [first, ...rest] = piecesOf(there, readSamples);
  if (first === undefined) {
    say(`${machine}: no restart in ${folder}: its microbenchmarks stay as they were recorded`);
    return;
  }
  const joined = joinRestarts([first, ...rest]);
  writeSamples(join(stage, microbenchFile(machine)), joined);
  say(`${machine}: ${joined.sites.length} sites, ${there.length} of ${restarts} restarts`);
};

const takeSet = (plan: Plan, machine: string, set: string, folder: string, stage: string, say: Say): void => {
  const paths = Object.keys(setOf(plan, set).files).map((file) =>
    join(folder, casesFile(machine, set, file)),
  );
  const lacking = paths.filter((path) => !existsSync(path));
  if (lacking.length === paths.length) {
    say(`${machine}: no cases of ${set} in ${folder}: they stay as they were recorded`);
    return;
  }
  if (lacking.length > 0)
    throw new SimError('invalid-input', `${lacking.join(', ')}: no such file; \`record measure\` writes it`);
  const [first, ...rest] = piecesOf(paths, readValidationSamples);
  const joined = joinCases([first, ...rest]);
  writeValidationSamples(join(stage, samplesFile(machine, set)), joined);
  say(`${machine}: ${joined.cases.length} cases of ${set}`);
  for (const { policy, context, batch, reason } of joined.refused)
    say(`  not run: ${policy}, ${context} tokens, batch ${batch}: ${reason}`);
};

const calibrate = async (...args: string[]): Promise<void> => {
  const failure = await runVerb({ args: ['calibrate', ...args] });
  if (failure !== null) throw new SimError('invalid-input', `kvtier calibrate ${args.join(' ')}: ${failure}`);
};

const fitProfile = async (machine: string, stage: string): Promise<void> => {
  const out = join(stage, `${machine}.json`);
  await calibrate('--from', join(stage, microbenchFile(machine)), '--out', out);
  renameSync(out, join(stage, profileFile(machine)));
};

/** Profiles that are carried over from this machine, or over to it. */
const carry = async (plan: Plan, machine: string, stage: string): Promise<void> => {
  for (const { name, carriedFrom, machine: target } of plan.records) {
    if (carriedFrom === undefined || (carriedFrom !== machine && target !== machine)) continue;
    const source = join(stage, profileFile(carriedFrom));
    if (!existsSync(source)) continue;
    const { datasheet = '' } = machineOf(plan, target);
    await calibrate('--transfer', source, '--to', datasheet, '--out', join(stage, profileFile(name)));
  }
};

const filesOf = ({ samples, hardware, stack, microbench }: EvidenceRecord): readonly string[] => [
  samples,
  hardware,
  stack,
  ...(microbench === undefined ? [] : [microbench]),
];

/** Counted steps, judged anew; without new ones they stay as they are. */
const takeCounters = (plan: Plan, machine: string, folder: string, stage: string, say: Say): void => {
  const file = countersFile(machine);
  if (!existsSync(join(folder, file))) return;
  const { cases } = readCounters(join(folder, file));
  cpSync(join(folder, file), join(stage, file));
  writeJudgedCounters(stage, plan);
  say(`${machine}: ${cases.length} counted steps`);
};

/** Files of sets and machines that the plan has no more. */
const removeUnnamed = (stage: string, plan: Plan, records: readonly EvidenceRecord[]): void => {
  const counted = Object.keys(plan.machines)
    .map(countersFile)
    .filter((file) => existsSync(join(stage, file)));
  const named = new Set([
    ...['plan.json', 'records.json'],
    ...(counted.length === 0 ? [] : [JUDGED_COUNTERS_FILE, ...counted]),
    ...records.flatMap(filesOf),
  ]);
  for (const file of readdirSync(stage)) if (!named.has(file)) rmSync(join(stage, file));
};

/**
 * The machine's recording in `folder` becomes evidence; what the folder lacks stays as it was recorded. Without a folder
 * the profile is fitted anew on the recorded samples. Throws SimError and changes nothing where a piece is missing or wrong.
 */
export const takeMachine = async (
  plan: Plan,
  evidence: string,
  machine: string,
  folder: string | null,
  say: Say,
): Promise<readonly EvidenceRecord[]> => {
  const stage = `${evidence}.new`;
  const old = `${evidence}.old`;
  const sets = setsOf(plan, machine);
  rmSync(stage, { recursive: true, force: true });
  try {
    cpSync(evidence, stage, { recursive: true });
    if (folder !== null) {
      takeRestarts(plan, machine, folder, stage, say);
      for (const set of sets) takeSet(plan, machine, set, folder, stage, say);
    }
    await fitProfile(machine, stage);
    await carry(plan, machine, stage);
    const records = writeRecords(stage, plan, say);
    if (folder !== null) takeCounters(plan, machine, folder, stage, say);
    removeUnnamed(stage, plan, records);
    rmSync(old, { recursive: true, force: true });
    renameSync(evidence, old);
    renameSync(stage, evidence);
    rmSync(old, { recursive: true });
    return records;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
};
