/** JSON files in gzip: how evidence and workloads are kept. Written whole or not at all. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import type * as z from 'zod';
import { SimError } from '../sim/error.ts';
import { firstIssue } from '../sim/near-names.ts';

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

export const writeGzipJson = (path: string, value: unknown): void => {
  writeFileSync(`${path}.new`, gzipSync(JSON.stringify(value), { level: 9 }));
  renameSync(`${path}.new`, path);
};
