/** Files of a run: each is written under a temporary name and renamed, so a reader never sees half of one. */
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from './verb.ts';

/** Writes text pieces to DIR/name; the folder is made. Throws UsageError when the folder cannot be written. */
export const writeOutput = (directory: string, name: string, pieces: Iterable<string>): string => {
  const path = join(directory, name);
  const temporary = `${path}.${process.pid}.partial`;
  try {
    mkdirSync(directory, { recursive: true });
    const file = openSync(temporary, 'w');
    try {
      for (const piece of pieces) writeSync(file, piece);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new UsageError(`--out ${directory}: cannot write ${name}: ${(cause as Error).message}`, { cause });
  }
  return path;
};
