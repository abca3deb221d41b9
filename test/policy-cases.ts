/**
 * Policies of the catalog with parameters for small traces, drawn from their schemas, so that a new policy is under
 * contract by being in the folder. The traces of the contract tests are an eighth of what defaults are made for: so
 * are the sizes here, and every choice of a schema gets its turn.
 */
import * as fc from 'fast-check';
import * as z from 'zod';
import { SimError } from '../sim/error.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import type { Policy, PolicyPlugin, World } from '../sim/policy/policy.ts';
import type { AttentionTraceShape } from '../sim/trace/attention-trace.ts';

export type Config = Readonly<Record<string, unknown>>;

export const plugins = Object.values(catalog as unknown as Readonly<Record<string, PolicyPlugin>>);

/** Defaults from this size on are sizes of long contexts; smaller ones (pages, sinks, bits) stay. */
const LARGE = 32;
const SCALE = 8;

interface Property {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
}

const propertiesOf = (plugin: PolicyPlugin): readonly (readonly [string, Property])[] => {
  const schema = z.toJSONSchema(plugin.config, { io: 'input', unrepresentable: 'any' });
  return Object.entries((schema.properties ?? {}) as Record<string, Property>);
};

const boundsOf = ({ type, minimum, exclusiveMinimum, maximum }: Property) => ({
  least:
    minimum ?? (exclusiveMinimum === undefined ? undefined : type === 'integer' ? exclusiveMinimum + 1 : 0),
  most: maximum !== undefined && maximum < 2 ** 52 ? maximum : undefined,
});

/** A default of the schema as a trace of an eighth of the length wants it; undefined where there is none. */
const smallDefault = (property: Property): unknown => {
  const { default: given, type } = property;
  if (type !== 'integer' || typeof given !== 'number' || given < LARGE) return given;
  return Math.max(boundsOf(property).least ?? 0, Math.round(given / SCALE));
};

/** Every default, scaled to the small traces. */
export const smallDefaults = (plugin: PolicyPlugin): Config =>
  Object.fromEntries(
    propertiesOf(plugin).flatMap(([name, property]) => {
      const value = smallDefault(property);
      return value === undefined ? [] : [[name, value]];
    }),
  );

/** Other values of a parameter; none where the schema does not say enough to draw from. */
const othersOf = (property: Property): readonly unknown[] => {
  const { type, enum: choices } = property;
  if (choices !== undefined) return choices;
  if (type === 'boolean') return [false, true];
  const { least, most } = boundsOf(property);
  const value = smallDefault(property);
  if (type === 'integer' && typeof value === 'number')
    return [Math.max(least ?? 0, value >> 1), Math.min(most ?? Infinity, 2 * value)];
  if (least === undefined || most === undefined) return [];
  return type === 'integer' ? [least, most] : [(least + 3 * most) / 4, most];
};

/** Small defaults with a few parameters changed. */
export const anyConfig = (plugin: PolicyPlugin): fc.Arbitrary<Config> => {
  const others = propertiesOf(plugin).map(([name, property]) => {
    const values = othersOf(property);
    return values.length === 0
      ? fc.constant({})
      : fc.oneof(
          { weight: 2, arbitrary: fc.constant({}) },
          { weight: 1, arbitrary: fc.constantFrom(...values).map((value) => ({ [name]: value })) },
        );
  });
  return fc.tuple(...others).map((changes) => Object.assign({}, smallDefaults(plugin), ...changes));
};

/** Small defaults with one number at the end of its range, or far beyond any trace where the range is open. */
export const extremeConfig = (plugin: PolicyPlugin): fc.Arbitrary<Config> => {
  const extremes = propertiesOf(plugin).flatMap(([name, property]) => {
    if (property.type !== 'integer' && property.type !== 'number') return [];
    const { least = -1, most = 1e6 } = boundsOf(property);
    return [least, most, Math.min(least + 2, most)].map((value) => ({ [name]: value }));
  });
  const base = smallDefaults(plugin);
  return fc.constantFrom(...extremes, {}).map((extreme) => ({ ...base, ...extreme }));
};

/** The traces of the contract: every group size, with room for what small budgets leave out. */
export const anyShape: fc.Arbitrary<AttentionTraceShape> = fc.record({
  layers: fc.constant(4),
  heads: fc.constantFrom(2, 4, 8),
  kvHeads: fc.constantFrom(1, 2),
  headDim: fc.constantFrom(32, 64),
  promptTokens: fc.integer({ min: 150, max: 500 }),
  steps: fc.constant(8),
  recordedLayers: fc.constant([2]),
});

/** Half precision rows; the fields that a random trace has. */
export const worldOf = (shape: AttentionTraceShape): World => ({
  layers: shape.layers,
  heads: shape.heads,
  kvHeads: shape.kvHeads,
  groupSize: shape.heads / shape.kvHeads,
  headDim: shape.headDim,
  kBytesPerToken: 2 * shape.headDim,
  vBytesPerToken: 2 * shape.headDim,
  promptTokens: shape.promptTokens,
  maxTokens: shape.promptTokens + shape.steps,
  fields: new Set(['k', 'v', 'q', 'qprompt']),
});

/** The policy, or null where its parameters contradict each other or the model: the error then says so by name. */
export const policyOrNull = (plugin: PolicyPlugin, config: Config, world: World): Policy | null => {
  try {
    return createPolicy(plugin, config, world);
  } catch (error) {
    const isRefusal = error instanceof SimError && ['invalid-input', 'not-supported'].includes(error.code);
    if (isRefusal && error.message.startsWith(`policy ${plugin.name}`)) return null;
    throw error;
  }
};
