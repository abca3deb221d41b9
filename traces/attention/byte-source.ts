/**
 * Random-access bytes: the only thing that the parser asks of a file, so that Node reads by range and never whole,
 * and a page hands in an ArrayBuffer. Reads are synchronous because policies ask for keys synchronously.
 */
import { TraceError } from '../error.ts';

export interface ByteSource {
  readonly sizeBytes: number;
  /** Exactly `length` bytes from `offset`; throws TraceError `io` when the source ends before. */
  read(offset: number, length: number): Uint8Array;
}

/** A source over bytes already in memory; reads are views, nothing is copied. */
export function memorySource(bytes: ArrayBuffer | Uint8Array): ByteSource {
  const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  return {
    sizeBytes: view.byteLength,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > view.byteLength) {
        throw new TraceError(
          'io',
          `bytes ${offset}..${offset + length} are outside a buffer of ${view.byteLength} bytes`,
        );
      }
      return view.subarray(offset, offset + length);
    },
  };
}
