/**
 * Flags of a verb, derived from its zod schema: one field, one flag. `contextTokens` is `--context-tokens`, a boolean
 * that defaults to true is `--no-x`, arrays are comma lists or repeated flags, numbers are read strictly.
 * Says what a flag is and how its text becomes a value; the schema alone judges the value.
 */
import type * as z from 'zod';
import { UsageError } from './verb.ts';

export type FlagKind = 'boolean' | 'number' | 'string' | 'array' | 'record';

export interface FlagSpec {
  /** The schema's field, camelCase. */
  readonly field: string;
  /** The flag's long name without dashes: `context-tokens`, `no-dense`. */
  readonly flag: string;
  readonly kind: FlagKind;
  /** What an array holds; the kind itself elsewhere. */
  readonly itemKind: 'number' | 'string';
  /** True when numbers may carry K, M, G, T or a byte unit: `.meta({ suffix: true })` on the schema. */
  readonly suffix: boolean;
  readonly description: string;
  readonly choices: readonly string[];
  readonly defaultValue: unknown;
  readonly required: boolean;
}

/** The part of a zod schema's definition that flags need; zod's own types keep it open. */
interface Definition {
  readonly type: string;
  readonly innerType?: z.core.$ZodType;
  readonly in?: z.core.$ZodType;
  readonly out?: z.core.$ZodType;
  readonly element?: z.core.$ZodType;
  readonly entries?: Readonly<Record<string, string | number>>;
  readonly values?: readonly unknown[];
  readonly options?: readonly z.core.$ZodType[];
  readonly defaultValue?: unknown;
}

interface Unwrapped {
  readonly core: z.core.$ZodType;
  readonly optional: boolean;
  readonly defaultValue: unknown;
  readonly description: string | undefined;
  readonly suffix: boolean;
}

const definitionOf = (schema: z.core.$ZodType): Definition => schema._zod.def as unknown as Definition;

const metaOf = (schema: z.core.$ZodType): Record<string, unknown> => {
  const meta = (schema as { meta?: () => unknown }).meta;
  return (
    (typeof meta === 'function' ? (meta.call(schema) as Record<string, unknown> | undefined) : undefined) ??
    {}
  );
};

/** What a wrapper (optional, default, pipe …) holds; undefined for a schema that is no wrapper. */
const innerOf = (definition: Definition): z.core.$ZodType | undefined => {
  if (definition.type !== 'pipe') return definition.innerType;
  const input = definition.in;
  // z.preprocess puts a transform in front: what follows it says more.
  return input !== undefined && definitionOf(input).type === 'transform' ? definition.out : input;
};

const unwrap = (schema: z.core.$ZodType): Unwrapped => {
  let core = schema;
  let optional = false;
  let defaultValue: unknown;
  let description: string | undefined;
  let suffix = false;
  for (;;) {
    const definition = definitionOf(core);
    const meta = metaOf(core);
    description ??= typeof meta.description === 'string' ? meta.description : undefined;
    suffix ||= meta.suffix === true;
    if (definition.type === 'optional') optional = true;
    if (definition.type === 'default' || definition.type === 'prefault') {
      optional = true;
      defaultValue ??= definition.defaultValue;
    }
    const inner = innerOf(definition);
    if (inner === undefined) return { core, optional, defaultValue, description, suffix };
    core = inner;
  }
};

const choicesOf = (schema: z.core.$ZodType): readonly string[] => {
  const definition = definitionOf(schema);
  if (definition.type === 'enum') return Object.values(definition.entries ?? {}).map(String);
  if (definition.type === 'literal') return (definition.values ?? []).map(String);
  if (definition.type !== 'union') return [];
  const parts = (definition.options ?? []).map((option) => choicesOf(unwrap(option).core));
  return parts.every((part) => part.length > 0) ? parts.flat() : [];
};

/** Number or string? A union or literal is a number's only if every member is one. */
const scalarKind = (schema: z.core.$ZodType): 'number' | 'string' => {
  const definition = definitionOf(schema);
  if (definition.type === 'number' || definition.type === 'int') return 'number';
  if (definition.type === 'literal') {
    return (definition.values ?? []).every((value) => typeof value === 'number') ? 'number' : 'string';
  }
  if (definition.type === 'union') {
    const kinds = (definition.options ?? []).map((option) => scalarKind(unwrap(option).core));
    return kinds.every((kind) => kind === 'number') ? 'number' : 'string';
  }
  return 'string';
};

export const kebabCase = (camelCase: string): string =>
  camelCase.replace(/[A-Z]+|(?<=[a-z])\d+(?=[A-Z])/g, (part) => `-${part.toLowerCase()}`);

const specOf = (field: string, schema: z.core.$ZodType): FlagSpec => {
  const { core, optional, defaultValue, description, suffix } = unwrap(schema);
  const { type, element } = definitionOf(core);
  const item = type === 'array' && element !== undefined ? unwrap(element) : undefined;
  const scalar = scalarKind(item?.core ?? core);
  const kind: FlagKind =
    type === 'boolean' || type === 'array' || type === 'record' ? (type as FlagKind) : scalar;
  const negated = kind === 'boolean' && defaultValue === true;
  return {
    field,
    flag: negated ? `no-${kebabCase(field)}` : kebabCase(field),
    kind,
    itemKind: scalar,
    suffix: suffix || item?.suffix === true,
    description: description ?? '',
    choices: choicesOf(item?.core ?? core),
    defaultValue,
    required: !optional && kind !== 'boolean',
  };
};

/** One spec a field of the verb's schema, in the schema's order. */
export const flagSpecs = (schema: z.ZodObject): readonly FlagSpec[] =>
  Object.entries(schema.shape).map(([field, value]) => specOf(field, value));

const SCALE: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
const DECIMAL: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
const NUMBER = /^[+-]?(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?/i;

/**
 * Reads a number. With `suffix`: K, M, G, T are powers of 1024 (128K = 131072 tokens), KiB … too, KB, MB, GB, TB
 * powers of 1000. Throws UsageError for anything else, `12abc` and the empty text included.
 */
export const parseNumber = (text: string, flag: string, suffix: boolean): number => {
  const trimmed = text.trim();
  const digits = NUMBER.exec(trimmed)?.[0] ?? '';
  const rest = trimmed.slice(digits.length).toLowerCase();
  const value = digits === '' ? Number.NaN : Number(digits.replaceAll('_', ''));
  const unit = suffix ? /^([kmgt]?)(i?b)?$/.exec(rest) : rest === '' ? ['', ''] : null;
  if (unit === null || !Number.isFinite(value)) {
    const expected = suffix ? 'a number such as 131072, 128K or 1.5e6' : 'a number';
    throw new UsageError(`--${flag}: expected ${expected}, got '${text}'`);
  }
  return value * ((unit[2] === 'b' ? DECIMAL : SCALE)[unit[1] ?? ''] ?? 1);
};

const ASSIGNMENT = /^[\w.-]+=/;

/**
 * Splits a comma list. Commas in brackets stay (`stack(a,b)`), and after an assignment (`quest.layers=0,1`) a comma
 * begins a new item only before the next assignment, so that the value stays whole.
 */
export const splitList = (text: string): readonly string[] => {
  const items: string[] = [];
  let depth = 0;
  for (const part of text.split(',')) {
    const last = items.length - 1;
    const continues = last >= 0 && ASSIGNMENT.test(items[last]) && !ASSIGNMENT.test(part.trim());
    if (depth > 0 || continues) items[last] += `,${part}`;
    else items.push(part.trim());
    for (const char of part) {
      if ('([{'.includes(char)) depth++;
      else if (')]}'.includes(char)) depth--;
    }
  }
  return items.filter((item) => item !== '');
};

const parseRecord = (texts: readonly string[], spec: FlagSpec): Record<string, unknown> => {
  const record: Record<string, unknown> = Object.create(null);
  for (const item of texts.flatMap(splitList)) {
    const at = item.indexOf('=');
    if (at < 1) throw new UsageError(`--${spec.flag}: expected name=value, got '${item}'`);
    record[item.slice(0, at)] = item.slice(at + 1);
  }
  return { ...record };
};

/** The value that the schema is to judge, from the text (or texts) of a flag. */
export const parseFlag = (spec: FlagSpec, raw: unknown): unknown => {
  if (spec.kind === 'boolean') return raw === true;
  const texts = (Array.isArray(raw) ? raw : [raw]).map(String);
  if (spec.kind === 'record') return parseRecord(texts, spec);
  const scalar = (text: string): unknown =>
    spec.itemKind === 'number' ? parseNumber(text, spec.flag, spec.suffix) : text;
  return spec.kind === 'array' ? texts.flatMap(splitList).map(scalar) : scalar(texts[texts.length - 1] ?? '');
};
