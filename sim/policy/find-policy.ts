/** Policies by name, and from their parameters: the one way from a name and a config to a policy that can be replayed. */
import { SimError } from '../error.ts';
import { catalog } from './catalog.generated.ts';
import type { Policy, PolicyPlugin, World } from './policy.ts';

/** Policies that are not in the catalog (a user's own file), by the name that the experiment uses. */
export type ExtraPolicies = Readonly<Record<string, PolicyPlugin>>;

/** The plug-in of that name. Throws SimError `unknown-name`. */
export const findPolicy = (name: string, extra: ExtraPolicies = {}): PolicyPlugin => {
  const plugins: Readonly<Record<string, unknown>> = { ...catalog, ...extra };
  if (!Object.hasOwn(plugins, name)) {
    throw new SimError('unknown-name', `unknown policy "${name}"; known: ${Object.keys(plugins).join(', ')}`);
  }
  return plugins[name] as PolicyPlugin;
};

/** A policy from its parameters; defaults are filled in. Throws SimError when the trace lacks what it requires. */
export const createPolicy = (
  plugin: PolicyPlugin,
  config: Readonly<Record<string, unknown>>,
  world: World,
  label = plugin.name,
): Policy => {
  const missing = plugin.requires.filter((field) => !world.fields.has(field));
  if (missing.length > 0) {
    throw new SimError(
      'not-supported',
      `policy ${label} requires ${plugin.requires.join(', ')}, and the trace lacks ${missing.join(', ')}`,
    );
  }
  return plugin.create(plugin.config.parse(config), world);
};
