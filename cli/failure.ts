/**
 * What an error means to the person at the terminal: one line and an exit code. 2 = wrong usage or bad input,
 * 1 = anything else. The stack trace is shown only with KVTIER_DEBUG=1.
 */
import { nearNames } from '../sim/near-names.ts';

export interface Failure {
  readonly exitCode: 1 | 2;
  readonly message: string;
}

/** Errors are told apart by name and code: importing their classes would load floors that the verb may not need. */
interface Shape {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
  readonly path?: unknown;
  readonly issues?: unknown;
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly code?: string;
  readonly message: string;
  /** The allowed values, where the issue is about a choice. */
  readonly values?: readonly unknown[];
}

const INPUT_CODES = new Set(['invalid-input', 'unknown-name', 'not-supported']);

const SYSTEM: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EISDIR: 'expected a file, found a directory',
  ENOTDIR: 'expected a directory, found a file',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EEXIST: 'exists already',
  EROFS: 'the file system can only be read',
  ENOSPC: 'no space left',
};

/** What an error of the system means; undefined for any other. */
export const systemText = (error: unknown): string | undefined =>
  SYSTEM[String((error as { code?: unknown } | null)?.code)];

/** Without line breaks, and without what a terminal would obey: messages quote files that are something else. */
const oneLine = (text: string): string =>
  text
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\p{Cc}+/gu, '\u{fffd}')
    .trim();

const issuesOf = (error: Shape): readonly Issue[] =>
  Array.isArray(error.issues) ? (error.issues as readonly Issue[]) : [];

/** zod says `Invalid input: expected number, received string`; the place goes in front, the rest stays short. */
const issueText = (place: string, issue: Issue): string => {
  const text = oneLine(issue.message)
    .replace(/^Invalid (?:input|option): /, '')
    .replace(/^expected int, received number$/, 'expected a whole number');
  if (/received undefined$/.test(text))
    return `${place}: is required (${text.replace(/, received undefined$/, '')})`;
  return `${place}: ${text}`;
};

/** What stands at a path of the given value, undefined where there is nothing. */
const at = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (inner, key) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, key) : undefined),
    value,
  );

const choiceText = (values: readonly unknown[], given: unknown): string => {
  const names = values.map(String);
  const [near] = given === undefined ? [] : nearNames(String(given), names, 1);
  const got =
    given === undefined ? '' : `, got '${given}'${near === undefined ? '' : ` (did you mean '${near}'?)`}`;
  return `expected one of ${names.join(', ')}${got}`;
};

/**
 * One line from the issues of a verb's own flags: the first one, under the name that the user knows the field by,
 * with what was given, and how many more there are.
 */
export const flagIssues = (
  issues: readonly Issue[],
  given: Readonly<Record<string, unknown>>,
  labelOf: (field: string) => string,
): string => {
  const first = issues[0];
  if (first === undefined) return 'invalid flags';
  const place = first.path.length === 0 ? 'flags' : labelOf(String(first.path[0]));
  const value = at(given, first.path);
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  if (first.values !== undefined) return `${place}: ${choiceText(first.values, value)}${more}`;
  const scalar = ['number', 'string', 'boolean'].includes(typeof value);
  const text = issueText(place, first);
  const got = scalar && !text.includes('received') ? `, got ${value}` : '';
  return `${text}${got}${more}`;
};

const schemaFailure = (error: Shape): Failure => {
  const first = issuesOf(error)[0];
  if (first === undefined) return { exitCode: 2, message: oneLine(String(error.message)) };
  return { exitCode: 2, message: issueText(first.path.map(String).join('.') || 'input', first) };
};

/** Reads any thrown value. */
export const failureOf = (thrown: unknown): Failure => {
  const error: Shape = typeof thrown === 'object' && thrown !== null ? thrown : {};
  const message = oneLine(thrown instanceof Error ? thrown.message : String(thrown));
  if (error.name === 'UsageError' || error.name === 'TraceError') return { exitCode: 2, message };
  if (error.name === 'ZodError' || error.name === '$ZodError') return schemaFailure(error);
  const code = typeof error.code === 'string' ? error.code : '';
  if (error.name === 'SimError' && INPUT_CODES.has(code)) return { exitCode: 2, message };
  if (error.name === 'SimError' && code === 'capacity-exceeded') return { exitCode: 1, message };
  if (error.name === 'KernelError') return { exitCode: 1, message };
  const system = SYSTEM[code];
  if (system !== undefined && typeof error.path === 'string') {
    return { exitCode: 2, message: `${error.path}: ${system}` };
  }
  return { exitCode: 1, message: `internal error: ${message}; set KVTIER_DEBUG=1 for the stack` };
};
