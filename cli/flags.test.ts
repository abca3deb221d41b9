/** Flags from schemas: names, kinds, defaults, and the reading of numbers and lists. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { flagSpecs, kebabCase, parseFlag, parseNumber, splitList } from './flags.ts';
import { UsageError } from './verb.ts';

const schema = z.object({
  context: z.number().int().positive().meta({ suffix: true }).describe('tokens of context').default(131072),
  hardware: z.string().describe('a name or a file').optional(),
  mode: z.enum(['dma', 'uva']).default('dma'),
  policies: z.array(z.string()).default(['full', 'quest']),
  capacities: z.array(z.number().meta({ suffix: true })).optional(),
  dense: z.boolean().default(true),
  verbose: z.boolean().default(false),
  set: z.record(z.string(), z.string()).default({}),
  seed: z.coerce.number(),
  direction: z.union([z.literal('h2d'), z.literal('d2h')]).optional(),
  trimmed: z
    .string()
    .transform((text) => text.length)
    .optional(),
});

const specs = Object.fromEntries(flagSpecs(schema).map((spec) => [spec.field, spec]));

describe('flagSpecs', () => {
  it('reads kinds through optional, default, describe, meta and transform', () => {
    expect(specs.context).toMatchObject({
      kind: 'number',
      suffix: true,
      defaultValue: 131072,
      required: false,
    });
    expect(specs.context.description).toBe('tokens of context');
    expect(specs.hardware).toMatchObject({
      kind: 'string',
      required: false,
      description: 'a name or a file',
    });
    expect(specs.policies).toMatchObject({ kind: 'array', itemKind: 'string' });
    expect(specs.capacities).toMatchObject({ kind: 'array', itemKind: 'number', suffix: true });
    expect(specs.set.kind).toBe('record');
    expect(specs.seed).toMatchObject({ kind: 'number', required: true });
    expect(specs.trimmed.kind).toBe('string');
  });

  it('lists choices of enums and of unions of literals', () => {
    expect(specs.mode.choices).toEqual(['dma', 'uva']);
    expect(specs.direction.choices).toEqual(['h2d', 'd2h']);
  });

  it('turns a boolean that is true by default into --no-x', () => {
    expect(specs.dense.flag).toBe('no-dense');
    expect(specs.verbose.flag).toBe('verbose');
  });

  it('writes names in kebab-case', () => {
    expect(['kvHeads', 'context', 'headDim', 'rowBytes', 'm'].map(kebabCase)).toEqual([
      'kv-heads',
      'context',
      'head-dim',
      'row-bytes',
      'm',
    ]);
  });
});

describe('parseNumber', () => {
  it('reads tokens and bytes with their units', () => {
    const read = (text: string): number => parseNumber(text, 'bytes', true);
    expect(['131072', '128K', '128k', '128KiB', '1e6', '2M', '1.5G', '16GB', '1_000'].map(read)).toEqual([
      131072,
      131072,
      131072,
      131072,
      1e6,
      2 * 2 ** 20,
      1.5 * 2 ** 30,
      16e9,
      1000,
    ]);
  });

  it('refuses what is no number, with the flag in the line', () => {
    for (const text of ['', ' ', 'abc', '12abc', '0x10', '1e', 'NaN', 'Infinity', '--3', '1 2', '12KK']) {
      expect(() => parseNumber(text, 'bytes', true), text).toThrow(UsageError);
      expect(() => parseNumber(text, 'bytes', true), text).toThrow(/^--bytes: expected a number/);
    }
    expect(() => parseNumber('128K', 'steps', false)).toThrow(UsageError);
  });

  it('reads back every finite number as JavaScript writes it', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(parseNumber(String(value), 'x', false)).toBe(value + 0);
      }),
      { seed: 42 },
    );
  });
});

describe('lists', () => {
  it('come from commas and from repetition', () => {
    expect(parseFlag(specs.policies, ['a,b', ' c '])).toEqual(['a', 'b', 'c']);
    expect(parseFlag(specs.capacities, ['1K,2e3'])).toEqual([1024, 2000]);
  });

  it('keep a comma that belongs to a value', () => {
    expect(splitList('quest.layers=0,1,ttkv.window=8')).toEqual(['quest.layers=0,1', 'ttkv.window=8']);
    expect(parseFlag(specs.set, ['quest.layers=0,1', 'ttkv.k=3'])).toEqual({
      'quest.layers': '0,1',
      'ttkv.k': '3',
    });
  });

  it('split where an item only holds an assignment', () => {
    expect(splitList('quest:tier=dram;k=2,full')).toEqual(['quest:tier=dram;k=2', 'full']);
  });

  it('refuse a record item without a name', () => {
    expect(() => parseFlag(specs.set, ['=3'])).toThrow(/--set: expected name=value/);
    expect(parseFlag(specs.set, ['__proto__=1'])).not.toHaveProperty('polluted');
  });
});
