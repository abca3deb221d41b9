/**
 * Checks of the fields of one line, shared by the formats: an error says which field, what was expected and what was
 * found; file and line are added by the reader of the file.
 */
import type { BlockHash } from '../request-trace.ts';

/** A field that is not what its format says. The message is the end of the line that people see. */
export class FieldError extends Error {
  constructor(field: string, expected: string, found: unknown) {
    super(`field ${field}: expected ${expected}, got ${show(found)}`);
    this.name = 'FieldError';
  }
}

const SHOWN = 40;
const show = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
};

/** Longest request that any column can hold. */
const MAX_TOKENS = 2 ** 31 - 1;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Bare integers of 16 digits and more inside an array or after a colon become strings: as doubles, different 64-bit
 * hashes would be equal.
 */
const LONG_INTEGER = /(?<=[[,:]\s*)-?\d{16,}(?=\s*[\],}])/g;

/** A line of JSONL as an object. */
export const parseObject = (line: string): Fields => {
  let value: unknown;
  try {
    value = JSON.parse(/\d{16}/.test(line) ? line.replace(LONG_INTEGER, '"$&"') : line);
  } catch {
    throw new FieldError('(line)', 'a JSON object', line);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FieldError('(line)', 'a JSON object', value);
  }
  return value as Fields;
};

/** A whole number of tokens, >= least. */
export const tokensField = (fields: Fields, name: string, least: number): number => {
  const value = fields[name];
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= MAX_TOKENS)
    return value;
  throw new FieldError(name, `a whole number of tokens >= ${least}`, value);
};

/** A time >= 0 in the format's unit, as whole ns. */
export const timeField = (fields: Fields, name: string, unit: string, unitNs: number): number => {
  const value = fields[name];
  const ns = typeof value === 'number' ? Math.round(value * unitNs) : Number.NaN;
  if (ns >= 0 && ns < Number.MAX_SAFE_INTEGER) return ns;
  throw new FieldError(name, `a time in ${unit}, >= 0`, value);
};

/** An array of block hashes. */
export const hashesField = (fields: Fields, name: string): readonly BlockHash[] => {
  const value = fields[name];
  if (!Array.isArray(value)) throw new FieldError(name, 'an array of block hashes', value);
  for (let k = 0; k < value.length; k++) {
    const hash: unknown = value[k];
    if (typeof hash === 'number' ? !Number.isInteger(hash) : typeof hash !== 'string') {
      throw new FieldError(`${name}[${k}]`, 'a whole number or a string', hash);
    }
  }
  return value as readonly BlockHash[];
};

/** A name or number that may be missing. */
export const optionalId = (fields: Fields, name: string): number | string | undefined => {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' || typeof value === 'string') return value;
  throw new FieldError(name, 'a number or a string', value);
};

/** The first line of a head as an object; undefined when it is none or cut off. */
export const sniffObject = (head: string): Fields | undefined => {
  const first = head.split('\n').find((line) => line.trim() !== '');
  try {
    return first === undefined ? undefined : parseObject(first);
  } catch {
    return undefined;
  }
};
