/** Trace files that `kvtier trace` writes: checks before the first byte, progress, and all of the file or nothing. */
import { existsSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { writeWholeFile } from '../traces/attention/node-file.ts';
import { formatBytes } from './format.ts';
import { UsageError, type VerbContext } from './verb.ts';

/** Refuses an existing file without --force, and a place that lacks the room. `sizeBytes` 0 = not known yet. */
export const checkPlace = (path: string, force: boolean, sizeBytes: number): void => {
  if (existsSync(path)) {
    if (!statSync(path).isFile())
      throw new UsageError(`${path}: expected a file's name, found something else there`);
    if (!force) throw new UsageError(`${path}: exists; pass --force to replace it`);
  }
  const folder = dirname(path);
  if (!existsSync(folder)) throw new UsageError(`${path}: folder ${folder} does not exist`);
  const { bavail, bsize } = statfsSync(folder);
  if (sizeBytes > bavail * bsize)
    throw new UsageError(
      `${path}: needs ${formatBytes(sizeBytes)}, ${folder} has ${formatBytes(bavail * bsize)} free`,
    );
};

/** Writes the chunks under a temporary name, then renames; the bytes written. Progress counts to `total`. */
export const writeTrace = (
  path: string,
  chunks: Iterable<Uint8Array>,
  context: VerbContext,
  label: string,
  total: number,
): number => {
  const progress = context.progress(label, total);
  let sizeBytes = 0;
  const counted = function* (): Generator<Uint8Array> {
    for (const chunk of chunks) {
      sizeBytes += chunk.byteLength;
      progress.update(Math.min(total, sizeBytes));
      yield chunk;
    }
  };
  try {
    writeWholeFile(path, counted());
  } finally {
    progress.end();
  }
  return sizeBytes;
};
