/**
 * Policies as the command line names them: `quest`, `quest:budgetTokens=512;tier=dram` (one policy several times), a
 * combination (`stack(snapkv,quest)`), a path to a user's own policy file, and `--set policy.param=value` for all runs
 * of a policy. A value `@FILE` is the file's. Every parameter is checked against the policy's schema and filled with its
 * default, so the experiment says all of it.
 */
import { existsSync } from 'node:fs';
import * as z from 'zod';
import type { PolicyChoice } from '../sim/experiment.ts';
import { nearNames, unknownName } from '../sim/near-names.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { isCombination, nameOfSpec, type PolicySpec, parseSpec } from '../sim/policy/combine/spec.ts';
import { MOST_COUNT, parseConfig } from '../sim/policy/create-policy.ts';
import { type ExtraPolicies, findPolicy } from '../sim/policy/find-policy.ts';
import type { PolicyPlugin, World } from '../sim/policy/policy.ts';
import { isPolicyPath, loadPolicyFile } from './policy-file.ts';
import { readText } from './read-text.ts';
import { UsageError } from './verb.ts';

/** What `--budget` and `--budgets` take: sinks and a window want some tokens. */
export const budgetTokens = z.int().min(16).max(MOST_COUNT);

/** A policy with the parameters that the user gave, beside all of them. */
export interface ChosenPolicy extends PolicyChoice {
  readonly given: Readonly<Record<string, unknown>>;
}

export interface ChosenPolicies {
  readonly choices: readonly ChosenPolicy[];
  readonly extra: ExtraPolicies;
}

const camelCase = (text: string): string =>
  text.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Text as the JSON value it spells, else as a string. */
const textValue = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

/** A file's value: JSON, or a table of numbers, a line a row, as numpy and spreadsheets write them. */
const fileValue = (path: string, what: string): unknown => {
  if (!existsSync(path)) throw new UsageError(`${what}: no such file: ${path}`);
  const text = readText(path);
  const value = textValue(text);
  if (typeof value !== 'string') return value;
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const table = lines.map((line) =>
    line
      .trim()
      .split(/[\s,;]+/)
      .map((cell) => (cell === '' ? Number.NaN : Number(cell))),
  );
  const wrong = table.findIndex((row) => !row.every(Number.isFinite));
  if (lines.length === 0 || wrong >= 0)
    throw new UsageError(
      `${what}: ${path}: expected JSON or rows of numbers, found "${(lines[wrong] ?? '').slice(0, 40)}"`,
    );
  return table;
};

const findByName = (name: string, extra: ExtraPolicies): PolicyPlugin => {
  const known = [...Object.keys(catalog), ...Object.keys(extra)];
  if (!isCombination(name) && !known.includes(name)) throw unknownName('policy', name, known, 'policies');
  return findPolicy(name, extra);
};

/** The spec with files loaded and named by the policy that they hold. */
const resolveFiles = async (spec: PolicySpec, extra: Record<string, PolicyPlugin>): Promise<PolicySpec> => {
  const parts: PolicySpec[] = [];
  for (const part of spec.parts) parts.push(await resolveFiles(part, extra));
  if (!isPolicyPath(spec.name)) {
    if (parts.length === 0) findByName(spec.name, extra);
    return { ...spec, parts };
  }
  const plugin = await loadPolicyFile(spec.name);
  extra[plugin.name] = plugin;
  return { ...spec, name: plugin.name, parts };
};

/** `--set name.param=value`. */
interface Setting {
  readonly name: string;
  readonly param: readonly [string, string];
}

/** Parameters of a spec and of its parts, as its plug-in's config holds them: settings first, then its own. */
const paramsOf = (spec: PolicySpec, settings: readonly Setting[]): Record<string, unknown> => {
  const policy = nameOfSpec(spec);
  const shared = settings.filter(({ name }) => name === policy).map(({ param }) => param);
  return Object.fromEntries([
    ...[...shared, ...spec.params].map(([param, text]) => [
      camelCase(param),
      text.startsWith('@')
        ? fileValue(text.slice(1), `policy ${policy}, parameter ${param}`)
        : textValue(text),
    ]),
    ...spec.parts.map((part) => [nameOfSpec(part), paramsOf(part, settings)]),
  ]);
};

/** Throws UsageError when a parameter does not exist: zod would drop it in silence. */
const checkNames = (plugin: PolicyPlugin, params: Readonly<Record<string, unknown>>, name: string): void => {
  const known = Object.keys(plugin.config.shape);
  for (const param of Object.keys(params)) {
    if (known.includes(param)) continue;
    const has = known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`;
    const [near] = nearNames(param, known, 1);
    throw new UsageError(
      `policy ${name} has no parameter '${param}'${near ? ` (did you mean '${near}'?)` : ''}; ${has}`,
    );
  }
};

const configure = (
  spec: PolicySpec,
  settings: readonly Setting[],
  extra: ExtraPolicies,
): Pick<ChosenPolicy, 'given' | 'config'> => {
  const name = nameOfSpec(spec);
  const plugin = findByName(name, extra);
  const params = paramsOf(spec, settings);
  checkNames(plugin, params, name);
  for (const part of spec.parts) configure(part, settings, extra);
  return { given: params, config: parseConfig(plugin, params, name) };
};

const namesIn = (spec: PolicySpec): readonly string[] => [nameOfSpec(spec), ...spec.parts.flatMap(namesIn)];

/** Parameters by policy name, below what the user gave. */
export type PolicyDefaults = Readonly<Record<string, Readonly<Record<string, string>>>>;

const settingsOf = (defaults: PolicyDefaults): readonly Setting[] =>
  Object.entries(defaults).flatMap(([name, params]) =>
    Object.entries(params).map((param): Setting => ({ name, param })),
  );

/** `--set` entries, each for a policy that is among the specs. */
const readSettings = (
  sets: readonly string[],
  specs: readonly PolicySpec[],
  extra: ExtraPolicies,
): readonly Setting[] =>
  sets.map((text) => {
    const [, name = '', param = '', value = ''] = /^(.+)\.([\w-]+)\s*=(.*)$/s.exec(text) ?? [];
    if (name === '') throw new UsageError(`--set ${text}: expected policy.param=value`);
    findByName(name, extra);
    if (!specs.flatMap(namesIn).includes(name))
      throw new UsageError(`--set ${text}: policy ${name} is not among --policies`);
    return { name, param: [param, value.trim()] };
  });

/** A policy is called what the user wrote, a file by the policy that it holds. */
const labelOf = (entry: string, { name, parts }: PolicySpec): string => {
  if (parts.length > 0 || entry.startsWith(name)) return entry;
  const at = entry.indexOf(':');
  return at < 0 ? name : `${name}${entry.slice(at)}`;
};

/** Resolves `--policies` and `--set` into what the experiment carries; `defaults` stand in for published ones. */
export const choosePolicies = async (
  entries: readonly string[],
  sets: readonly string[],
  defaults: PolicyDefaults = {},
): Promise<ChosenPolicies> => {
  const extra: Record<string, PolicyPlugin> = {};
  const specs: PolicySpec[] = [];
  for (const entry of entries) specs.push(await resolveFiles(parseSpec(entry), extra));
  const settings = [...settingsOf(defaults), ...readSettings(sets, specs, extra)];
  const choices = specs.map((spec, at) => ({
    label: labelOf(entries[at].trim(), spec),
    name: nameOfSpec(spec),
    ...configure(spec, settings, extra),
  }));
  const labels = choices.map(({ label }) => label);
  const twice = labels.find((label, at) => labels.indexOf(label) !== at);
  if (twice !== undefined)
    throw new UsageError(
      `--policies: ${twice} is named twice; give one of them other parameters (name:param=value)`,
    );
  return { choices, extra };
};

/** The same policies, each at a token budget where it takes one; parameters that the user gave stay. */
export const atBudget = (
  { choices, extra }: ChosenPolicies,
  tokens: number,
  world: World,
): { readonly choices: readonly PolicyChoice[]; readonly without: readonly string[] } => {
  const without: string[] = [];
  const budgeted = choices.map((choice) => {
    const { label, name, given } = choice;
    const plugin = findPolicy(name, extra);
    if (plugin.atBudget === undefined) {
      without.push(label);
      return choice;
    }
    return {
      label,
      name,
      config: parseConfig(plugin, { ...plugin.atBudget(tokens, world), ...given }, label),
    };
  });
  return { choices: budgeted, without };
};
