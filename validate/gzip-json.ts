/** JSON files in gzip: how evidence and workloads are kept. Written whole or not at all. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import type * as z from 'zod';
import { SimError } from '../sim/error.ts';
import { firstIssue } from '../sim/near-names.ts';
import { makeFolder } from './make-folder.ts';

const GZIP_MAGIC = 0x1f;

/** Reads and checks a file; plain JSON is taken too. Throws SimError 'invalid-input' with file, field and expectation. */
export const readGzipJson = <T>(path: string, schema: z.ZodType<T>, what: string): T => {
  let json: unknown;
  try {
    const bytes = readFileSync(path);
    json = JSON.parse((bytes[0] === GZIP_MAGIC ? gunzipSync(bytes) : bytes).toString('utf8'));
  } catch (error) {
    throw new SimError(
      'invalid-input',
      `${path}: expected ${what} as JSON, plain or gzip: ${(error as Error).message}`,
    );
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new SimError('invalid-input', `${path}: ${firstIssue(parsed.error.issues)}`);
  return parsed.data;
};

/** Folders on the way are made. Throws SimError 'invalid-input' when it cannot be written, and leaves nothing then. */
export const writeGzipJson = (path: string, value: unknown): void => {
  const temporary = `${path}.new`;
  try {
    makeFolder(dirname(path));
    writeFileSync(temporary, gzipSync(JSON.stringify(value), { level: 9 }));
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new SimError('invalid-input', `${path}: cannot be written: ${(error as Error).message}`);
  }
};
