/**
 * Bounds-checked reader of safetensors files: header length, JSON, dtypes, shapes and offsets are proved consistent
 * with the file's size before any tensor byte is touched. Every fault is one line naming file, tensor and expectation.
 * Source: the format as documented at https://github.com/huggingface/safetensors (README, "Format").
 */
import { TraceError, type TraceErrorCode } from '../error.ts';
import type { ByteSource } from './byte-source.ts';
import { findDuplicateKey } from './json-keys.ts';

/** Bytes of one element, by dtype name as it stands in the header. */
export const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type Dtype = keyof typeof dtypeBytes;

/** The reference implementation's own limit; a longer header is an attack or an accident. */
export const maxHeaderBytes = 100_000_000;

export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Absolute position in the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface SafetensorsFile {
  readonly name: string;
  readonly source: ByteSource;
  /** Bytes of the header including its 8-byte length: where tensor data starts. */
  readonly dataOffset: number;
  /** The `__metadata__` map: strings to strings; empty when absent. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Parses and checks the header; throws TraceError. `name` is what messages call the file. */
export function openSafetensors(source: ByteSource, name: string): SafetensorsFile {
  const headerBytes = readHeaderLength(source, name);
  const header = parseHeader(source.read(8, headerBytes), name);
  const dataOffset = 8 + headerBytes;
  const metadata = readMetadata(header.__metadata__, name);
  const tensors: TensorEntry[] = [];
  for (const [tensor, value] of Object.entries(header)) {
    if (tensor !== '__metadata__') tensors.push(readEntry(tensor, value, dataOffset, name));
  }
  checkLayout(tensors, dataOffset, source.sizeBytes, name);
  return {
    name,
    source,
    dataOffset,
    metadata,
    tensors: new Map(tensors.map((entry) => [entry.name, entry])),
  };
}

function fail(code: TraceErrorCode, message: string, cause?: unknown): never {
  throw new TraceError(code, message, cause === undefined ? undefined : { cause });
}

function readHeaderLength(source: ByteSource, name: string): number {
  if (source.sizeBytes < 8) {
    fail('malformed', `${name}: header length: expected 8 bytes, the file has ${source.sizeBytes}`);
  }
  const bytes = source.read(0, 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > maxHeaderBytes) {
    fail('malformed', `${name}: header length: expected at most ${maxHeaderBytes} bytes, found ${length}`);
  }
  if (length > source.sizeBytes - 8) {
    const left = source.sizeBytes - 8;
    fail('malformed', `${name}: header length: says ${length} bytes, only ${left} follow (truncated file?)`);
  }
  if (length < 2) fail('malformed', `${name}: header length: expected at least 2 bytes, found ${length}`);
  return length;
}

function parseHeader(bytes: Uint8Array, name: string): Record<string, unknown> {
  if (bytes[0] !== 0x7b) fail('malformed', `${name}: header: expected a JSON object that opens with '{'`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    fail('malformed', `${name}: header: expected UTF-8 text`, cause);
  }
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    fail('malformed', `${name}: header: expected valid JSON`, cause);
  }
  if (!isRecord(header)) fail('malformed', `${name}: header: expected a JSON object`);
  const twice = findDuplicateKey(text);
  if (twice !== null)
    fail('malformed', `${name}: header: key ${JSON.stringify(twice)} stands twice, expected once`);
  return header;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readMetadata(value: unknown, name: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!isRecord(value)) fail('malformed', `${name}: __metadata__: expected a map of strings`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') fail('malformed', `${name}: __metadata__.${key}: expected a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function readEntry(tensor: string, value: unknown, dataOffset: number, name: string): TensorEntry {
  const where = `${name}: tensor ${JSON.stringify(tensor)}`;
  if (!isRecord(value)) fail('malformed', `${where}: expected {dtype, shape, data_offsets}`);
  for (const key of Object.keys(value)) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') {
      fail('malformed', `${where}: unexpected field ${JSON.stringify(key)}`);
    }
  }
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !isDtype(dtype)) {
    fail('malformed', `${where}: dtype: expected one of ${Object.keys(dtypeBytes).join(', ')}`);
  }
  if (!isCounts(shape)) fail('malformed', `${where}: shape: expected an array of non-negative integers`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    fail('malformed', `${where}: data_offsets: expected two non-negative integers [begin, end]`);
  }
  const [begin, end] = offsets as readonly [number, number];
  if (end < begin)
    fail('malformed', `${where}: data_offsets: expected begin <= end, found [${begin}, ${end}]`);
  const expected = sizeOf(shape, dtype);
  if (expected === null) fail('malformed', `${where}: shape: [${shape.join(', ')}] is more than 2^53 bytes`);
  if (expected !== end - begin) {
    const claim = `shape [${shape.join(', ')}] of ${dtype} needs ${expected} bytes`;
    fail('contradiction', `${where}: data_offsets: ${claim}, found ${end - begin}`);
  }
  return { name: tensor, dtype, shape, offset: dataOffset + begin, sizeBytes: expected };
}

function isDtype(text: string): text is Dtype {
  return Object.hasOwn(dtypeBytes, text);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((x) => Number.isSafeInteger(x) && x >= 0);
}

/** Bytes of a tensor, or null when the product leaves the exact integers. A zero dimension makes it empty. */
export function sizeOf(shape: readonly number[], dtype: Dtype): number | null {
  if (shape.includes(0)) return 0;
  let bytes: number = dtypeBytes[dtype];
  for (const extent of shape) {
    bytes *= extent;
    if (bytes > Number.MAX_SAFE_INTEGER) return null;
  }
  return bytes;
}

/** Tensors must tile the data section exactly: no overlap, no hole, nothing after the last one. */
function checkLayout(
  tensors: readonly TensorEntry[],
  dataOffset: number,
  fileBytes: number,
  name: string,
): void {
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  let end = dataOffset;
  for (const entry of sorted) {
    const where = `${name}: tensor ${JSON.stringify(entry.name)}: data_offsets`;
    if (entry.offset < end)
      fail('malformed', `${where}: overlap the tensor before by ${end - entry.offset} bytes`);
    if (entry.offset > end) fail('malformed', `${where}: leave a hole of ${entry.offset - end} bytes before`);
    end = entry.offset + entry.sizeBytes;
    if (end > fileBytes) {
      fail('malformed', `${where}: end at byte ${end}, the file has ${fileBytes} (truncated file?)`);
    }
  }
  if (end < fileBytes) {
    fail('malformed', `${name}: file: ${fileBytes - end} bytes follow the last tensor, expected none`);
  }
}
