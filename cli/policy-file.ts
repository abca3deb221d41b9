/**
 * Policies in files of the user's own, TypeScript or JavaScript. `zod` and `kvtier` are lent to the file, so that it runs
 * from any folder, installed package beside it or not. It is code that the user chose to run.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as zod from 'zod';
import { catalog } from '../sim/policy/catalog.generated.ts';
import type { PolicyPlugin } from '../sim/policy/policy.ts';
import { UsageError } from './verb.ts';

export const isPolicyPath = (text: string): boolean => /\.[cm]?[jt]s$/.test(text);

/** What a name may look like: it stands before `:`, `(` and `.` on the command line. */
const NAME = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;

/** Why this is not the name of a new policy; null when it is. */
export const nameTrouble = (name: string): string | null => {
  if (!NAME.test(name)) return `expected a name such as my-policy, got '${name}'`;
  return Object.hasOwn(catalog, name) ? `'${name}' is a policy of the catalog; expected another name` : null;
};

/** What the export lacks; null when it is a policy. */
const trouble = (policy: unknown): string | null => {
  if (typeof policy !== 'object' || policy === null)
    return 'expected an export named "policy" with name, config and create';
  const { name, config, create, requires } = policy as Partial<Record<keyof PolicyPlugin, unknown>>;
  if (typeof name !== 'string') return 'policy.name: expected a string';
  if (!(config instanceof zod.ZodObject)) return 'policy.config: expected a z.object(…) of its parameters';
  if (typeof create !== 'function') return 'policy.create: expected a function of config and world';
  if (!Array.isArray(requires)) return "policy.requires: expected a list of trace fields, such as ['k', 'q']";
  const wrongName = nameTrouble(name);
  return wrongName === null ? null : `policy.name: ${wrongName}`;
};

/** Loads the `policy` that a file exports. Throws UsageError naming the file and what it lacks. */
export const loadPolicyFile = async (path: string): Promise<PolicyPlugin> => {
  const file = resolve(path);
  const refuse = (message: string, cause?: unknown): UsageError =>
    new UsageError(`policy file ${path}: ${message}`, { cause });
  if (!existsSync(file)) throw refuse('no such file');
  const { createJiti } = await import('jiti');
  const kvtier = await import('../index.ts');
  const jiti = createJiti(pathToFileURL(file).href, { virtualModules: { zod, kvtier } });
  const loaded = await jiti.import<{ policy?: unknown }>(file).catch((cause: unknown) => {
    throw refuse(cause instanceof Error ? cause.message.split('\n')[0] : String(cause), cause);
  });
  const wrong = trouble(loaded.policy);
  if (wrong !== null) throw refuse(wrong);
  return loaded.policy as PolicyPlugin;
};
