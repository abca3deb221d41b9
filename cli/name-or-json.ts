/** What a flag such as --hardware takes: a catalog's name, or a JSON file of the user's own. */
import { existsSync } from 'node:fs';
import { systemText } from './failure.ts';
import { readText } from './read-text.ts';
import { UsageError } from './verb.ts';

/** The name as given, or the file's parsed content. Throws UsageError naming flag and file. */
export const nameOrJson = (value: string, flag: string): string | Record<string, unknown> => {
  if (!value.endsWith('.json') && !existsSync(value)) return value;
  try {
    return JSON.parse(readText(value)) as Record<string, unknown>;
  } catch (cause) {
    throw new UsageError(`--${flag} ${value}: ${systemText(cause) ?? (cause as Error).message}`, { cause });
  }
};
