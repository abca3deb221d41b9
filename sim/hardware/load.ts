/**
 * Hardware profiles and software stacks by name, alias, or parsed JSON: validated, with one-line errors.
 * The files themselves are data in profiles/ and stacks/; the catalogs are generated from them.
 */
import type * as z from 'zod';
import { SimError } from '../error.ts';
import { firstIssue, unknownName } from '../near-names.ts';
import { catalog as profileCatalog } from './catalog.generated.ts';
import { type Profile, profileSchema } from './schema.ts';
import { type Stack, stackSchema } from './stack-schema.ts';
import { catalog as stackCatalog } from './stacks.generated.ts';

const profileFiles: Readonly<Record<string, unknown>> = profileCatalog;
const stackFiles: Readonly<Record<string, unknown>> = stackCatalog;

export const DEFAULT_STACK = 'flashinfer-graphs';

export const profileNames: readonly string[] = Object.keys(profileFiles);
export const stackNames: readonly string[] = Object.keys(stackFiles);

const validate = <T>(schema: z.ZodType<T>, json: unknown, kind: string, file: string): T => {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw new SimError('invalid-input', `${kind} ${file}: ${firstIssue(parsed.error.issues)}`);
  }
  return parsed.data;
};

const normalise = (name: string): string => name.toLowerCase().replaceAll(/[_\s]+/g, '-');

/** The entry's own name for a name or alias, case and underscores aside; undefined if there is none. */
const resolve = (files: Readonly<Record<string, unknown>>, asked: string): string | undefined => {
  const wanted = normalise(asked);
  if (Object.hasOwn(files, wanted)) return wanted;
  return Object.keys(files).find((name) =>
    (files[name] as { readonly aliases?: readonly string[] }).aliases?.some(
      (alias) => normalise(alias) === wanted,
    ),
  );
};

/** Whether the catalog knows a machine by this name or alias. */
export const hasProfile = (name: string): boolean => resolve(profileFiles, name) !== undefined;

/**
 * A profile by name or alias, or from parsed JSON (`file` names it in errors).
 * Throws SimError 'unknown-name' with near names, or 'invalid-input' with file, field and expectation.
 */
export const loadProfile = (profile: string | object, file = 'hardware profile'): Profile => {
  if (typeof profile !== 'string') return validate(profileSchema, profile, 'hardware', file);
  const name = resolve(profileFiles, profile);
  if (name === undefined) throw unknownName('hardware', profile, profileNames, 'hardware');
  return validate(profileSchema, profileFiles[name], 'hardware', `${name}.json`);
};

/** A stack by name or alias, or from parsed JSON; errors as loadProfile's. */
export const loadStack = (stack: string | object = DEFAULT_STACK, file = 'software stack'): Stack => {
  if (typeof stack !== 'string') return validate(stackSchema, stack, 'stack', file);
  const name = resolve(stackFiles, stack);
  if (name === undefined) throw unknownName('stack', stack, stackNames, 'stacks');
  return validate(stackSchema, stackFiles[name], 'stack', `${name}.json`);
};

export interface ProfileRow {
  readonly name: string;
  readonly title: string;
  readonly aliases: readonly string[];
  readonly memoryBytes: number;
  readonly hbmPeakBytesPerNs: number;
  readonly hbmAchievedBytesPerNs: number;
  readonly bf16Tflops: number;
  readonly link: string;
  readonly h2dBytesPerNs: number;
  readonly dramBytes: number;
  readonly usdPerHour: number | null;
  /** Share of the numbers that were measured, fitted or published rather than taken from a datasheet or assumed. */
  readonly anchoredRatio: number;
}

const isQuantity = (value: object): value is { readonly status: string } =>
  'status' in value && 'source' in value;

/** Statuses of all quantities of a profile or of a part of it. */
export const statusesOf = (part: unknown): readonly string[] => {
  if (typeof part !== 'object' || part === null) return [];
  if (isQuantity(part)) return [part.status];
  return Object.values(part).flatMap(statusesOf);
};

const ANCHORED: readonly string[] = ['measured', 'fitted', 'published'];

/** What a list says of a profile. */
export const profileRow = (name: string, profile: Profile): ProfileRow => {
  const { accelerator, link, host, price } = profile;
  const statuses = statusesOf(profile);
  return {
    name,
    title: profile.title,
    aliases: profile.aliases,
    memoryBytes: accelerator.memory.capacityBytes.value,
    hbmPeakBytesPerNs: accelerator.hbm.peakBytesPerNs.value,
    hbmAchievedBytesPerNs: accelerator.hbm.achievedBytesPerNs.value,
    bf16Tflops: accelerator.compute.bf16.peakTflops.value,
    link: link.kind === 'pcie' ? `PCIe ${link.generation}` : link.generation,
    h2dBytesPerNs: link.h2dBytesPerNs.value,
    dramBytes: host.dram.capacityBytes.value,
    usdPerHour: price?.usdPerHour.value ?? null,
    anchoredRatio: statuses.filter((status) => ANCHORED.includes(status)).length / statuses.length,
  };
};

/** One row a shipped profile, in the catalog's order. */
export const listProfiles = (): readonly ProfileRow[] =>
  profileNames.map((name) => profileRow(name, loadProfile(name)));

export interface StackRow {
  readonly name: string;
  readonly title: string;
  readonly aliases: readonly string[];
  readonly launch: string;
  readonly hostNs: number;
  readonly expandsKv: boolean;
}

/** One row a shipped stack, in the catalog's order. */
export const listStacks = (): readonly StackRow[] =>
  stackNames.map((name) => {
    const { title, aliases, launch, hostNs, decodeAttention } = loadStack(name);
    return { name, title, aliases, launch, hostNs: hostNs.value, expandsKv: decodeAttention.expandsKv };
  });
