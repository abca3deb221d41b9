/** Node's half of block-mass tables: a file on disk, and the decompressors of the running Node. */
import * as zlib from 'node:zlib';
import type { Compressors } from 'hyparquet';
import { openFileSource } from '../node-file.ts';
import { type BlockMassTable, type MassReaderOptions, readMassParquet } from './parquet-reader.ts';

/** Zstandard came to Node in 22.15; without it the library says which codec is missing. */
const zstd =
  'zstdDecompressSync' in zlib ? (zlib.zstdDecompressSync as (input: Uint8Array) => Uint8Array) : null;

const compressors: Compressors = {
  GZIP: (input) => zlib.gunzipSync(input),
  BROTLI: (input) => zlib.brotliDecompressSync(input),
  ...(zstd === null ? {} : { ZSTD: (input) => zstd(input) }),
};

/** Reads a table of block mass from disk; throws TraceError. */
export const readMassFile = async (
  path: string,
  options: MassReaderOptions = {},
): Promise<BlockMassTable> => {
  const source = openFileSource(path);
  try {
    return await readMassParquet(source, path, { compressors, ...options });
  } finally {
    source.close();
  }
};
