/** Policies by name: of the catalog, of a user's own file, or a combination of such (`stack(snapkv,quest)`). */
import { SimError } from '../error.ts';
import { catalog } from './catalog.generated.ts';
import { combinationOf, isCombination } from './combine/spec.ts';
import type { PolicyPlugin } from './policy.ts';

/** Policies that are not in the catalog (a user's own file), by the name that the experiment uses. */
export type ExtraPolicies = Readonly<Record<string, PolicyPlugin>>;

/** The plug-in of that name. Throws SimError `unknown-name`. */
export const findPolicy = (name: string, extra: ExtraPolicies = {}): PolicyPlugin => {
  if (isCombination(name)) return combinationOf(name, (part) => findPolicy(part, extra));
  const plugins: Readonly<Record<string, unknown>> = { ...catalog, ...extra };
  if (!Object.hasOwn(plugins, name)) {
    throw new SimError('unknown-name', `unknown policy "${name}"; known: ${Object.keys(plugins).join(', ')}`);
  }
  return plugins[name] as PolicyPlugin;
};
