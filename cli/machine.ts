/**
 * Machines that were measured and ship with their evidence, by name: `h100-measured` is the profile that `calibrate`
 * wrote there, and brings the stack of kernels that was fitted with it, unless another stack is asked for.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { DEFAULT_STACK, hasProfile, loadProfile, loadStack, profileNames } from '../sim/hardware/load.ts';
import type { Profile } from '../sim/hardware/schema.ts';
import type { Stack } from '../sim/hardware/stack-schema.ts';
import { unknownName } from '../sim/near-names.ts';
import { packageRoot } from '../traces/package-root.ts';
import { nameOrJson } from './name-or-json.ts';

/** The flags of every verb that times something on a machine. */
export const machineFlags = {
  hardware: z
    .string()
    .default('h100-sxm')
    .describe('machine: a catalog name, a measured one (h100-measured), or a profile (.json)'),
  stack: z
    .string()
    .optional()
    .describe(
      `software stack: a catalog name or a file (.json); default: ${DEFAULT_STACK}, or what was measured with the machine`,
    ),
};

const SUFFIX = '-measured';
const folder = new URL('validate/evidence/', packageRoot());

const fileOf = (name: string, kind: 'profile' | 'stack'): string | undefined => {
  if (!name.endsWith(SUFFIX)) return undefined;
  const path = fileURLToPath(new URL(`${name.slice(0, -SUFFIX.length)}.${kind}.json`, folder));
  return existsSync(path) ? path : undefined;
};

/** Machines that ship with what was measured on them, by the names that flags take. */
export const measuredNames = (): readonly string[] =>
  readdirSync(folder)
    .flatMap((file) => /^(.+)\.stack\.json$/.exec(file)?.[1] ?? [])
    .sort()
    .map((name) => `${name}${SUFFIX}`);

/** Refuses a name that the catalog does not know, with what looks like it among those that were measured too. */
const profileSource = (value: string, flag: string): string | Record<string, unknown> => {
  const source = nameOrJson(fileOf(value, 'profile') ?? value, flag);
  if (typeof source !== 'string' || hasProfile(source)) return source;
  throw unknownName('hardware', value, [...profileNames, ...measuredNames()], 'hardware');
};

/** The profile that a flag names: of the catalog, of a file, or measured. Errors say the name or the file. */
export const namedProfile = (value: string, flag: string): Profile =>
  loadProfile(profileSource(value, flag), value);

export interface NamedMachine {
  /** Each as the experiment keeps it: a catalog's name, or the parsed file. */
  readonly source: { readonly hardware: string | object; readonly stack: string | object };
  readonly profile: Profile;
  readonly stack: Stack;
  /** As given, or that of what stood in for it. */
  readonly stackName: string;
}

/**
 * What --hardware and --stack name: entries of the catalogs, files of the user's, or a measured machine. Without
 * `stack`, the measured machine's own, otherwise `otherwise`. Errors say the name or the file.
 */
export const namedMachine = (
  hardware: string,
  stack: string | undefined,
  otherwise = DEFAULT_STACK,
): NamedMachine => {
  const own = stack ?? (fileOf(hardware, 'stack') === undefined ? otherwise : hardware);
  const source = {
    hardware: profileSource(hardware, 'hardware'),
    stack: nameOrJson(fileOf(own, 'stack') ?? own, 'stack'),
  };
  return {
    source,
    profile: loadProfile(source.hardware, hardware),
    stack: loadStack(source.stack, own),
    stackName: own,
  };
};
