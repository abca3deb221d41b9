/**
 * From a plug-in and its parameters to a policy that can be replayed: the one place where parameters, the model and the
 * trace are checked against each other. Whatever contradicts is refused in one line that names policy and parameter:
 * what a schema can see by its refinements, what needs the model or the trace by the plug-in's `create`.
 */
import { SimError } from '../error.ts';
import { catalog } from './catalog.generated.ts';
import type { Policy, PolicyPlugin, World } from './policy.ts';

type Config = Readonly<Record<string, unknown>>;

/** Counts above it would leave the 32 bits of the columns that hold them, and no trace is longer. */
export const MOST_COUNT = 2 ** 31 - 1;

const checkCounts = (config: Config, label: string): void => {
  for (const [name, value] of Object.entries(config)) {
    if (typeof value !== 'number' || value <= MOST_COUNT) continue;
    throw new SimError(
      'invalid-input',
      `policy ${label}, parameter ${name}: expected at most ${MOST_COUNT}, got ${value}`,
    );
  }
};

/** Parameters with every default filled in. Throws SimError `invalid-input` naming the first wrong one. */
export const parseConfig = (plugin: PolicyPlugin, config: Config, label = plugin.name): Config => {
  const result = plugin.config.safeParse(config);
  if (result.success) {
    checkCounts(result.data, label);
    return result.data;
  }
  const [{ path, message }] = result.error.issues;
  const where = path.length === 0 ? '' : `, parameter ${path.join('.')}`;
  throw new SimError('invalid-input', `policy ${label}${where}: ${message}`);
};

/** Policies of the catalog that the trace has enough for, most of the same family first; at most three. */
const possibleWith = ({ fields }: World, like: PolicyPlugin): readonly string[] =>
  Object.values(catalog as unknown as Readonly<Record<string, PolicyPlugin>>)
    .filter(({ name, requires }) => name !== like.name && requires.every((field) => fields.has(field)))
    .sort((a, b) => Number(b.family === like.family) - Number(a.family === like.family))
    .slice(0, 3)
    .map(({ name }) => name);

const checkTrace = (plugin: PolicyPlugin, world: World, label: string): void => {
  const missing = plugin.requires.filter((field) => !world.fields.has(field));
  if (missing.length === 0) return;
  const others = possibleWith(world, plugin);
  const instead = others.length === 0 ? '' : `; it is enough for ${others.join(', ')}`;
  throw new SimError(
    'not-supported',
    `policy ${label} requires ${plugin.requires.join(', ')}, and the trace lacks ${missing.join(', ')}${instead}`,
  );
};

const checkCodecs = ({ codecs }: Policy, label: string): void => {
  for (const codec of codecs) {
    const lacks = (['encode', 'kBytesPerToken', 'vBytesPerToken', 'decodeFlopsPerToken'] as const).find(
      (member) => typeof codec[member] !== 'function',
    );
    if (lacks !== undefined) {
      throw new SimError(
        'invalid-input',
        `policy ${label}: codec ${codec.name}: expected a function ${lacks}`,
      );
    }
  }
};

/** What a plug-in refuses is said under the policy's name. */
const createFrom = (plugin: PolicyPlugin, config: Config, world: World, label: string): Policy => {
  try {
    return plugin.create(config, world);
  } catch (error) {
    if (!(error instanceof SimError) || error.message.startsWith('policy ')) throw error;
    throw new SimError(error.code, `policy ${label}: ${error.message}`, { cause: error });
  }
};

/** A policy from its parameters; defaults are filled in. Throws SimError for whatever contradicts. */
export const createPolicy = (
  plugin: PolicyPlugin,
  config: Config,
  world: World,
  label = plugin.name,
): Policy => {
  checkTrace(plugin, world, label);
  const policy = createFrom(plugin, parseConfig(plugin, config, label), world, label);
  checkCodecs(policy, label);
  return policy;
};
