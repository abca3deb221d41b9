/**
 * Request traces from files: plain, gzip or (where Node can) zstd, told apart by their first bytes; streamed, so that
 * memory does not grow with the file unless the caller keeps the rows. In Node only.
 */
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { pipeline, type Readable, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { TraceError } from '../error.ts';
import type { RequestTrace } from './request-trace.ts';
import { type RowConsumer, RowReader, TraceCollector } from './row-reader.ts';

export interface ReadOptions {
  /** Bytes of the file read so far, and its size. */
  readonly onProgress?: ((readBytes: number, sizeBytes: number) => void) | undefined;
}

const PIECE_BYTES = 1 << 18;
const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];

const SYSTEM: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'expected a file, found a directory',
};

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');

const ioError = (path: string, error: unknown): TraceError => {
  const reason = SYSTEM[codeOf(error)] ?? String((error as Error).message);
  return new TraceError('io', `${path}: ${reason}`, { cause: error });
};

const firstBytes = async (path: string): Promise<{ head: Uint8Array; sizeBytes: number }> => {
  try {
    const facts = await stat(path);
    if (facts.isDirectory()) throw Object.assign(new Error('directory'), { code: 'EISDIR' });
    const file = await open(path);
    try {
      const head = new Uint8Array(4);
      await file.read(head, 0, head.length, 0);
      return { head, sizeBytes: facts.size };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw ioError(path, error);
  }
};

const begins = (head: Uint8Array, magic: readonly number[]): boolean =>
  magic.every((byte, at) => head[at] === byte);

/** The decompressor that the first bytes ask for; undefined for plain text. */
const decompressor = (path: string, head: Uint8Array): Transform | undefined => {
  if (begins(head, GZIP)) return zlib.createGunzip({ chunkSize: PIECE_BYTES });
  if (!begins(head, ZSTD)) return undefined;
  const create = (zlib as { createZstdDecompress?: () => Transform }).createZstdDecompress;
  if (create === undefined) {
    throw new TraceError(
      'not-supported',
      `${path}: zstd needs Node 22.15 or later; expected plain text or gzip here`,
    );
  }
  return create();
};

/**
 * Hands every request of the file to `consume`, in the file's order, in constant memory.
 * Throws TraceError: 'io', 'not-supported' (unknown format), 'malformed' (file, line, field, expectation).
 */
export const scanRequestFile = async (
  path: string,
  consume: RowConsumer,
  options: ReadOptions = {},
): Promise<RowReader> => {
  const { head, sizeBytes } = await firstBytes(path);
  const unpack = decompressor(path, head);
  const file = createReadStream(path, { highWaterMark: PIECE_BYTES });
  // pipeline closes both ends on any error; the error itself surfaces in the loop below.
  const pieces: Readable = unpack === undefined ? file : pipeline(file, unpack, () => {});
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });
  const reader = new RowReader(path, consume);
  try {
    for await (const piece of pieces) {
      reader.push(decoder.decode(piece as Uint8Array, { stream: true }));
      options.onProgress?.(file.bytesRead, sizeBytes);
    }
    reader.push(decoder.decode());
    reader.end();
    return reader;
  } catch (error) {
    if (error instanceof TraceError) throw error;
    const code = codeOf(error);
    if (code.startsWith('Z_') || code.startsWith('ZSTD')) {
      throw new TraceError(
        'malformed',
        `${path}: expected whole compressed data: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
      throw new TraceError('malformed', `${path}: expected UTF-8 text, plain or gzip`, { cause: error });
    }
    throw code === '' ? error : ioError(path, error);
  } finally {
    file.destroy();
  }
};

/** The whole trace in columns. Throws as scanRequestFile. */
export const readRequestFile = async (path: string, options: ReadOptions = {}): Promise<RequestTrace> => {
  const collector = new TraceCollector(path);
  const reader = await scanRequestFile(path, collector.add, options);
  return collector.finish(reader.blockTokens);
};
