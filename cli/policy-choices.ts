/**
 * Policies as the command line names them: `quest`, `quest:budgetTokens=512;tier=dram` (one policy several times), a
 * path to a user's own policy file, and `--set policy.param=value` for all runs of a policy. Every parameter is
 * checked against the policy's schema and filled with its default, so the experiment says all of it.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { PolicyChoice } from '../sim/experiment.ts';
import { nearNames, unknownName } from '../sim/near-names.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { type ExtraPolicies, findPolicy } from '../sim/policy/find-policy.ts';
import type { PolicyPlugin } from '../sim/policy/policy.ts';
import { UsageError } from './verb.ts';

export interface ChosenPolicies {
  readonly choices: readonly PolicyChoice[];
  readonly extra: ExtraPolicies;
}

const camelCase = (text: string): string =>
  text.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Text of a parameter as the JSON value it spells, else as a string. */
const parameterValue = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const assignment = (text: string, what: string): readonly [string, unknown] => {
  const at = text.indexOf('=');
  if (at <= 0) throw new UsageError(`${what}: expected param=value, got "${text}"`);
  return [camelCase(text.slice(0, at).trim()), parameterValue(text.slice(at + 1).trim())];
};

const isPath = (text: string): boolean => /\.[cm]?[jt]s$/.test(text);

/** Loads a policy file that the user chose to run; TypeScript goes through jiti where Node cannot read it. */
const loadPolicyFile = async (path: string): Promise<PolicyPlugin> => {
  const file = resolve(path);
  if (!existsSync(file)) throw new UsageError(`--policies ${path}: no such file`);
  const { createJiti } = await import('jiti');
  const loaded = await createJiti(pathToFileURL(file).href)
    .import<{ policy?: PolicyPlugin }>(file)
    .catch((cause: unknown) => {
      throw new UsageError(
        `--policies ${path}: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`,
        { cause },
      );
    });
  const { policy } = loaded;
  if (!policy || typeof policy.create !== 'function' || typeof policy.name !== 'string') {
    throw new UsageError(
      `--policies ${path}: expected an export named "policy" with name, config and create`,
    );
  }
  return policy;
};

const findByName = (name: string, extra: ExtraPolicies): PolicyPlugin => {
  const known = [...Object.keys(catalog), ...Object.keys(extra)];
  if (!known.includes(name)) throw unknownName('policy', name, known, 'policies');
  return findPolicy(name, extra);
};

interface Entry {
  readonly plugin: PolicyPlugin;
  readonly name: string;
  readonly params: readonly (readonly [string, unknown])[];
  readonly label: string;
}

/** One `--policies` entry: its plug-in and its own parameters. */
const parseEntry = async (entry: string, extra: Record<string, PolicyPlugin>): Promise<Entry> => {
  const at = entry.indexOf(':');
  const own = at > 0 && !isPath(entry) ? entry.slice(at + 1) : '';
  const head = own === '' ? entry : entry.slice(0, at);
  let name = head.trim();
  if (isPath(name)) {
    const plugin = await loadPolicyFile(name);
    name = plugin.name;
    extra[name] = plugin;
  }
  const plugin = findByName(name, extra);
  const params = own === '' ? [] : own.split(';').map((text) => assignment(text, `--policies ${entry}`));
  return { plugin, name, params, label: own === '' ? name : `${name}:${own}` };
};

const configure = (
  plugin: PolicyPlugin,
  name: string,
  params: readonly (readonly [string, unknown])[],
): Record<string, unknown> => {
  const known = Object.keys(plugin.config.shape);
  for (const [param] of params) {
    if (!known.includes(param)) {
      const has = known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`;
      const [near] = nearNames(param, known, 1);
      throw new UsageError(
        `policy ${name} has no parameter '${param}'${near ? ` (did you mean '${near}'?)` : ''}; ${has}`,
      );
    }
  }
  const result = plugin.config.safeParse(Object.fromEntries(params));
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new UsageError(`policy ${name}, parameter ${issue.path.join('.')}: ${issue.message}`);
  }
  return result.data;
};

/** Resolves `--policies` and `--set` into what the experiment carries. */
export const choosePolicies = async (
  entries: readonly string[],
  sets: readonly string[],
): Promise<ChosenPolicies> => {
  const extra: Record<string, PolicyPlugin> = {};
  const parsed: Entry[] = [];
  for (const entry of entries) parsed.push(await parseEntry(entry, extra));
  const common = sets.map((text) => {
    const dot = text.indexOf('.');
    if (dot <= 0) throw new UsageError(`--set ${text}: expected policy.param=value`);
    const name = text.slice(0, dot).trim();
    findByName(name, extra);
    if (!parsed.some((p) => p.name === name))
      throw new UsageError(`--set ${text}: policy ${name} is not among --policies`);
    return { name, param: assignment(text.slice(dot + 1), `--set ${text}`) };
  });
  const choices = parsed.map(({ plugin, name, params, label }) => {
    const shared = common.filter((set) => set.name === name).map(({ param }) => param);
    return { label, name, config: configure(plugin, name, [...shared, ...params]) };
  });
  const labels = choices.map(({ label }) => label);
  const twice = labels.find((label, at) => labels.indexOf(label) !== at);
  if (twice !== undefined)
    throw new UsageError(
      `--policies: ${twice} is named twice; give one of them other parameters (name:param=value)`,
    );
  return { choices, extra };
};
