/**
 * Counts what a machine's memory and link move in whole steps: runs them under Nsight Compute (`ncu`), a range a step, and
 * keeps the counts beside the steps. Needs `ncu` on the path and the right to read counters, which drivers give to root
 * alone unless they are told otherwise.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { load } from '../../kernels/load.ts';
import { SimError } from '../../sim/error.ts';
import { type PreparedCase, readWorkloads } from '../policies/pack.ts';
import { type CountedCase, METRICS, parseCounts, writeCounters } from '../traffic/counters.ts';
import { countersFile, machineOf, type Plan, setOf, workloadsFile } from './plan.ts';

/** The set whose steps are counted. */
const COUNTED = 'counted';
const FLAGS = ['--replay-mode', 'app-range', '--clock-control', 'none'];

/** Runs the steps of files under the profiler; which of them were ranges, in their order. */
const countSteps = async (
  profiler: string,
  files: readonly string[],
  table: string,
  limitMs: number,
): Promise<string> => {
  const steps = fileURLToPath(new URL('count-steps.js', import.meta.url));
  const metrics = ['--metrics', Object.values(METRICS).join(',')];
  const output = ['--csv', '--page', 'raw', '--log-file', table];
  const args = [...FLAGS, ...metrics, ...output, process.execPath, steps, ...files];
  const child = spawn(profiler, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: limitMs });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const failure = await new Promise<string | null>((resolve) => {
    child.on('error', ({ message }) => resolve(message));
    child.on('close', (code, signal) => resolve(code === 0 ? null : `ended by ${signal ?? `exit ${code}`}`));
  });
  if (failure !== null) throw new SimError('invalid-input', `${profiler}: ${failure}`);
  return said;
};

const placeSchema = z.tuple([z.int().nonnegative(), z.int().nonnegative()]);

/** Steps that were ranges; the profiler may run the process again for further counters, which says them again. */
export const countedPlaces = (said: string): readonly (readonly [number, number])[] => {
  const lines = new Set(said.split('\n').filter((line) => line.startsWith('[')));
  return [...lines].map((line) => placeSchema.parse(JSON.parse(line)));
};

/** Counts with their steps. Throws SimError 'invalid-input' where there are more or fewer ranges than steps. */
export const joinCounts = (
  said: string,
  table: string,
  where: string,
  cases: readonly (readonly PreparedCase[])[],
): readonly CountedCase[] => {
  const counts = parseCounts(table, where);
  const places = countedPlaces(said);
  if (counts.length === 0 || counts.length !== places.length)
    throw new SimError(
      'invalid-input',
      `${where}: ${counts.length} ranges, expected ${places.length || 'some'}`,
    );
  return places.map(([file, at], range) => ({ prepared: cases[file][at], runs: [counts[range]] }));
};

/** Writes FOLDER/MACHINE.counters.json.gz, which `record take` takes; `profiler` is what `ncu` is called, `date` of today. */
export const countMachine = async (
  plan: Plan,
  machine: string,
  folder: string,
  { profiler, date }: { readonly profiler: string; readonly date: string },
  say: (line: string) => void,
): Promise<void> => {
  machineOf(plan, machine);
  const sets = Object.entries(setOf(plan, COUNTED).files);
  const files = sets.map(([file]) => join(folder, workloadsFile(COUNTED, file)));
  const lacking = files.filter((file) => !existsSync(file));
  if (lacking.length > 0)
    throw new SimError(
      'invalid-input',
      `${lacking.join(', ')}: no such file; \`record prepare FOLDER --sets ${COUNTED}\` writes it`,
    );
  const cases = files.map((file) => readWorkloads(file));
  const table = join(folder, `${machine}.counters.csv`);
  rmSync(table, { force: true });
  const seconds = sets.reduce((sum, [, set]) => sum + set.seconds, 0);
  const said = await countSteps(profiler, files, table, 2000 * seconds);
  const counted = joinCounts(said, readFileSync(table, 'utf8'), table, cases);
  const { backend } = await load('cuda');
  const { name, driver, runtime, units, l2Bytes, emulated } = backend.device;
  backend.close();
  const path = join(folder, countersFile(machine));
  writeCounters(path, {
    machine: {
      backend: 'cuda',
      name,
      driver,
      runtime,
      units,
      l2Bytes,
      date,
      emulated: [...emulated],
    },
    tool: `Nsight Compute, ${FLAGS.join(' ')}`,
    cases: counted,
  });
  say(`wrote ${counted.length} counted steps to ${path}`);
};
