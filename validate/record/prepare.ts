/** Workloads of sets, written where policies are replayed: one file for each of the plan's. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SimError } from '../../sim/error.ts';
import { makeFolder } from '../make-folder.ts';
import { type PreparedCase, readWorkloads, writeWorkloads } from '../policies/pack.ts';
import { runVerb } from './command.ts';
import { type Plan, setOf, workloadsFile } from './plan.ts';

type Say = (line: string) => void;

/** Cases of all calls, each replayed in a process of its own. */
const replayed = async (calls: readonly (readonly string[])[], scratch: string): Promise<PreparedCase[]> => {
  // What a preparation left that was killed.
  rmSync(scratch, { recursive: true, force: true });
  try {
    const cases: PreparedCase[] = [];
    for (const [at, call] of calls.entries()) {
      const path = join(scratch, `${at}.json.gz`);
      const failure = await runVerb({ args: ['validate', ...call, '--prepare', path] });
      if (failure !== null)
        throw new SimError('invalid-input', `kvtier validate ${call.join(' ')}: ${failure}`);
      cases.push(...readWorkloads(path));
    }
    return cases;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** Writes what the folder lacks: what is there is kept, so that a preparation that was ended goes on. */
export const prepareSets = async (
  plan: Plan,
  folder: string,
  sets: readonly string[],
  say: Say,
): Promise<void> => {
  makeFolder(folder);
  for (const set of sets)
    for (const [file, { prepare }] of Object.entries(setOf(plan, set).files)) {
      const path = join(folder, workloadsFile(set, file));
      if (existsSync(path)) {
        say(`${path} is there already and is kept`);
        continue;
      }
      const cases = await replayed(prepare, join(folder, `${set}.${file}.replaying`));
      writeWorkloads(path, cases);
      say(`wrote ${cases.length} cases to ${path}`);
    }
};
