/** From a plug-in and its parameters to a policy that can be replayed: the one place where both are checked. */
import { SimError } from '../error.ts';
import type { Policy, PolicyPlugin, World } from './policy.ts';

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
