/**
 * Writes safetensors: the header first, then tensors in the order given, chunk by chunk, so that a file larger than
 * memory can be streamed. Same tensors and metadata give the same bytes. Node's half is in node-file.ts.
 */
import { TraceError } from '../error.ts';
import { type Dtype, maxHeaderBytes, sizeOf } from './safetensors.ts';

export interface TensorToWrite {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** The tensor's bytes, little-endian, row-major, in as many chunks as suits. Called once. */
  chunks(): Iterable<Uint8Array>;
}

/** The header with its length, padded with spaces so that tensor data starts on an 8-byte boundary. */
function encodeHeader(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) entries.push(['__metadata__', metadata]);
  const names = new Set(['__metadata__']);
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name))
      throw new TraceError('invalid-input', `tensor name ${JSON.stringify(name)} is taken`);
    names.add(name);
    const end = offset + expectedBytes(name, dtype, shape);
    entries.push([name, { dtype, shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  // Pair by pair, since a plain object would reorder integer-like names.
  const pairs = entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const json = new TextEncoder().encode(`{${pairs.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  if (padded > maxHeaderBytes) throw new TraceError('invalid-input', `header of ${padded} bytes is too long`);
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setUint32(0, padded, true);
  bytes.fill(0, 4, 8);
  bytes.set(json, 8);
  return bytes;
}

function expectedBytes(name: string, dtype: Dtype, shape: readonly number[]): number {
  const whole = shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0);
  const bytes = whole ? sizeOf(shape, dtype) : null;
  if (bytes === null) {
    throw new TraceError(
      'invalid-input',
      `tensor ${JSON.stringify(name)}: shape [${shape.join(', ')}] is no shape`,
    );
  }
  return bytes;
}

/** Every chunk of the file in order; throws when a tensor yields more or fewer bytes than its shape. */
export function* encodeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Generator<Uint8Array> {
  yield encodeHeader(tensors, metadata);
  for (const tensor of tensors) {
    const expected = expectedBytes(tensor.name, tensor.dtype, tensor.shape);
    let written = 0;
    for (const chunk of tensor.chunks()) {
      written += chunk.byteLength;
      if (written > expected) break;
      yield chunk;
    }
    if (written !== expected) {
      const found = written > expected ? 'more' : `${written}`;
      const where = `tensor ${JSON.stringify(tensor.name)}`;
      throw new TraceError('invalid-input', `${where}: expected ${expected} bytes, was given ${found}`);
    }
  }
}

/** The whole file in memory; for fixtures, tests and the page. */
export function writeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const chunks = [...encodeSafetensors(tensors, metadata)];
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}
