/**
 * Node's half of attention files: byte ranges of a file on disk, and writing under a temporary name that is renamed
 * only when every byte is there, so a reader never sees half a trace.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { TraceError } from '../error.ts';
import type { ByteSource } from './byte-source.ts';
import { openAttentionTrace, type ReaderOptions, type RecordedTrace } from './reader.ts';
import { encodeSafetensors, type TensorToWrite } from './safetensors-writer.ts';

export interface FileSource extends ByteSource {
  close(): void;
}

/** Opens a regular file for reading by range; throws TraceError `io`. */
export function openFileSource(path: string): FileSource {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new TraceError('io', `${path}: expected a readable file (${codeOf(cause)})`, { cause });
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    throw new TraceError('io', `${path}: expected a regular file`);
  }
  return {
    sizeBytes: stat.size,
    read(offset, length) {
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const got = readSync(fd, bytes, done, Math.min(length - done, 2 ** 30), offset + done);
        if (got === 0)
          throw new TraceError('io', `${path}: ended at byte ${offset + done}, shrunk since it was opened`);
        done += got;
      }
      return bytes;
    },
    close: () => closeSync(fd),
  };
}

export interface AttentionFile extends RecordedTrace {
  /** Closes the file; what was decoded stays valid. */
  close(): void;
}

/** Opens an attention trace on disk. `name` of the trace is the path as given. */
export function openAttentionFile(path: string, options: ReaderOptions = {}): AttentionFile {
  const source = openFileSource(path);
  try {
    return Object.assign(openAttentionTrace(source, path, options), { close: source.close });
  } catch (cause) {
    source.close();
    throw cause;
  }
}

/** Streams a safetensors file to disk: all of it under its name, or nothing. */
export function writeSafetensorsFile(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): void {
  writeWholeFile(path, encodeSafetensors(tensors, metadata));
}

/** Streams chunks to a file: all of them under its name, or nothing; throws TraceError `io`. */
export function writeWholeFile(path: string, chunks: Iterable<Uint8Array>): void {
  const temporary = `${path}.${process.pid}.partial`;
  let fd: number;
  try {
    fd = openSync(temporary, 'wx');
  } catch (cause) {
    throw new TraceError('io', `${path}: expected a writable place (${codeOf(cause)})`, { cause });
  }
  let isOpen = true;
  try {
    for (const chunk of chunks) writeAll(fd, chunk);
    closeSync(fd);
    isOpen = false;
    renameSync(temporary, path);
  } catch (cause) {
    if (isOpen) closeSync(fd);
    rmSync(temporary, { force: true });
    if (cause instanceof TraceError || !(cause instanceof Error && 'code' in cause)) throw cause;
    throw new TraceError('io', `${path}: could not be written (${codeOf(cause)})`, { cause });
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(fd, bytes, done);
}

/** What people know better than the code. */
const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file is too large for the disk',
};

function codeOf(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  return reasons[code] ?? code;
}
