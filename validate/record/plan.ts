/**
 * What evidence is recorded: machines, sets of cases with the flags of `kvtier validate --prepare` that make them, and the
 * records that stand in docs/validation.md. The plan lies beside the evidence (validate/evidence/plan.json).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { SimError } from '../../sim/error.ts';
import { firstIssue } from '../../sim/near-names.ts';

/** Names become parts of file names. */
const name = z
  .string()
  .regex(/^[a-z0-9-]+(?:\.[0-9][a-z0-9-]*)*$/, 'expected small letters, digits and dashes');
/** As they stand on a command line; none holds a blank. */
const flags = z.string().transform((text) => text.split(' ').filter((word) => word !== ''));

const planSchema = z.strictObject({
  machines: z.record(
    name,
    z.strictObject({
      /** Profile of the catalog whose datasheet describes it; what a carried record starts from. */
      datasheet: z.string().optional(),
      restarts: z.int().min(1),
      /** Time that a restart should take, s. */
      restartSeconds: z.number().positive(),
      /** Further flags of `kvtier calibrate` and of `kvtier validate --from`. */
      calibrate: flags,
      validate: flags,
    }),
  ),
  sets: z.record(
    name,
    z.strictObject({
      files: z.record(
        name,
        z.strictObject({
          /** Flags of `kvtier validate --prepare`, call by call; their cases come into one file. */
          prepare: z.array(flags).min(1),
          /** No case is begun after this time, s. */
          seconds: z.number().positive(),
        }),
      ),
    }),
  ),
  records: z.array(
    z.strictObject({
      name,
      title: z.string(),
      machine: name,
      set: name,
      /** Machine whose utilisation is carried over to the datasheet of this one, instead of its own profile. */
      carriedFrom: name.optional(),
    }),
  ),
});

export type Plan = z.infer<typeof planSchema>;
export type PlannedRecord = Plan['records'][number];

/** What the plan has by a name; an outsider's name costs one line. */
const known = <T>(table: Readonly<Record<string, T>>, key: string, what: string): T => {
  if (!Object.hasOwn(table, key))
    throw new SimError(
      'invalid-input',
      `${what} ${key}: expected one of ${Object.keys(table).join(', ')}, as the plan has them`,
    );
  return table[key];
};

export const machineOf = (plan: Plan, machine: string): Plan['machines'][string] =>
  known(plan.machines, machine, 'machine');

export const setOf = (plan: Plan, set: string): Plan['sets'][string] => known(plan.sets, set, 'set');

/** Throws SimError 'invalid-input' with the field and what it should be. */
export const parsePlan = (json: unknown, where: string): Plan => {
  const parsed = planSchema.safeParse(json);
  if (!parsed.success) throw new SimError('invalid-input', `${where}: ${firstIssue(parsed.error.issues)}`);
  for (const { machine, set, carriedFrom } of parsed.data.records) {
    setOf(parsed.data, set);
    const { datasheet } = machineOf(parsed.data, machine);
    if (carriedFrom !== undefined) machineOf(parsed.data, carriedFrom);
    if (carriedFrom !== undefined && datasheet === undefined)
      throw new SimError(
        'invalid-input',
        `${where}: machines.${machine}.datasheet: expected for a carried record`,
      );
  }
  return parsed.data;
};

export const readPlan = (evidence: string): Plan => {
  const path = join(evidence, 'plan.json');
  try {
    return parsePlan(JSON.parse(readFileSync(path, 'utf8')), path);
  } catch (cause) {
    if (cause instanceof SimError) throw cause;
    throw new SimError('invalid-input', `${path}: ${(cause as Error).message}`, { cause });
  }
};

/** Sets that the records of a machine need, in the plan's order. */
export const setsOf = (plan: Plan, machine: string): readonly string[] => {
  machineOf(plan, machine);
  return [...new Set(plan.records.filter((one) => one.machine === machine).map(({ set }) => set))];
};

/** Files of a recording: what stands in its folder until it is taken. */
export const workloadsFile = (set: string, file: string): string => `${set}.${file}.workloads.json.gz`;
export const casesFile = (machine: string, set: string, file: string): string =>
  `${machine}.${set}.${file}.samples.json.gz`;
export const restartFile = (machine: string, restart: number): string =>
  `${machine}.restart-${restart}.samples.json.gz`;

/** Files of the evidence. */
export const samplesFile = (machine: string, set: string): string => `${machine}.${set}.json.gz`;
export const countersFile = (machine: string): string => `${machine}.counters.json.gz`;
export const microbenchFile = (machine: string): string => `${machine}.microbench.json.gz`;
export const profileFile = (described: string): string => `${described}.profile.json`;
export const stackFile = (machine: string): string => `${machine}.stack.json`;
