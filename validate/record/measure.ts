/**
 * Measures a machine of the plan, part by part: each restart of a calibration and each file of cases is a process of its
 * own that writes its samples when it is done, so that what was measured outlives whatever ends the next.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SimError } from '../../sim/error.ts';
import { makeFolder } from '../make-folder.ts';
import { runVerb } from './command.ts';
import { casesFile, machineOf, type Plan, restartFile, setOf, setsOf, workloadsFile } from './plan.ts';

/** The part that is no set. */
export const CALIBRATION = 'calibration';

/** A part may take twice the time that it is given, and what opening a device and its memory takes. */
const OPENING_MS = 60_000;

interface Job {
  readonly path: string;
  readonly args: readonly string[];
  readonly limitMs: number;
}

const restartsOf = (plan: Plan, machine: string, folder: string): readonly Job[] => {
  const { restarts, restartSeconds, calibrate } = machineOf(plan, machine);
  return Array.from({ length: restarts }, (_, at) => {
    const path = join(folder, restartFile(machine, at + 1));
    const time = ['--restarts', '1', '--seed', `${at + 1}`, '--time-limit', `${restartSeconds}`];
    return {
      path,
      args: ['calibrate', '--no-fit', '--samples', path, ...time, ...calibrate],
      limitMs: 2000 * restartSeconds + OPENING_MS,
    };
  });
};

const casesOf = (plan: Plan, machine: string, folder: string, set: string): readonly Job[] =>
  Object.entries(setOf(plan, set).files).map(([file, { seconds }]) => {
    const from = join(folder, workloadsFile(set, file));
    const path = join(folder, casesFile(machine, set, file));
    const { validate } = machineOf(plan, machine);
    return {
      path,
      args: ['validate', '--from', from, '--samples', path, '--time-limit', `${seconds}`, ...validate],
      limitMs: 2000 * seconds + OPENING_MS,
    };
  });

const jobsOf = (plan: Plan, machine: string, folder: string, part: string): readonly Job[] =>
  part === CALIBRATION ? restartsOf(plan, machine, folder) : casesOf(plan, machine, folder, part);

/** Everything that a machine's records need. */
export const partsOf = (plan: Plan, machine: string): readonly string[] => [
  CALIBRATION,
  ...setsOf(plan, machine),
];

/** Measures what the folder lacks of the parts; one that fails is told, and the others go on. True where none failed. */
export const measureParts = async (
  plan: Plan,
  machine: string,
  folder: string,
  parts: readonly string[],
  say: (line: string) => void,
): Promise<boolean> => {
  makeFolder(folder);
  const jobs = parts.flatMap((part) => jobsOf(plan, machine, folder, part));
  const lacking = jobs.flatMap(({ args }) => {
    const from = args[0] === 'validate' ? args[2] : null;
    return from === null || existsSync(from) ? [] : [from];
  });
  if (lacking.length > 0)
    throw new SimError('invalid-input', `${lacking.join(', ')}: no such file; \`record prepare\` writes it`);
  let good = true;
  for (const { path, args, limitMs } of jobs) {
    if (existsSync(path)) {
      say(`${path} is there already and is kept`);
      continue;
    }
    const failure = await runVerb({ args, limitMs });
    if (failure === null) continue;
    good = false;
    say(`${path}: ${failure}`);
  }
  return good;
};
