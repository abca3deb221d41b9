/**
 * The one small memory that the SIMD kernels work in, its regions, and how rows and entries get there: padded to what
 * the kernels take at a time. Made on first use; throws `not-supported` where WebAssembly SIMD is missing.
 */
import { SimError } from '../error.ts';
import { assemble } from './simd-assembler.ts';
import { CHANNEL_BLOCK, type Kernels, kernelFunctions, LANES } from './simd-kernels.ts';

// The few names of the WebAssembly API that are used; the core is compiled without a host's types.
declare const WebAssembly: {
  validate(bytes: Uint8Array): boolean;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (
    module: object,
  ) => { readonly exports: Kernels & { readonly memory: { readonly buffer: ArrayBuffer } } };
};

/** Regions of the scratch memory, in float32: a tile of rows, queries or sums, and what is read or written per row. */
export const ROW_FLOATS = 65536;
export const QUERY_FLOATS = 32768;
export const ENTRY_FLOATS = 65536;
const PAGE_BYTES = 65536;
/** Most channels of a row: so many that a tile still holds some rows. */
const MAX_CHANNELS = ROW_FLOATS / 16;

interface Scratch {
  readonly kernels: Kernels;
  readonly rows: Float32Array;
  readonly queries: Float32Array;
  /** The same memory as `queries`. */
  readonly sums: Float64Array;
  readonly entries: Float32Array;
}

let scratch: Scratch | null = null;

const createScratch = (): Scratch => {
  const bytes = assemble((4 * (ROW_FLOATS + QUERY_FLOATS + ENTRY_FLOATS)) / PAGE_BYTES, kernelFunctions);
  if (typeof WebAssembly === 'undefined' || !WebAssembly.validate(bytes)) {
    throw new SimError(
      'not-supported',
      'WebAssembly SIMD is missing here: attention is computed with it, so that numbers agree everywhere (Node 20 and browsers since 2023 have it)',
    );
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  const { buffer } = exports.memory;
  const queriesAt = 4 * ROW_FLOATS;
  const entriesAt = queriesAt + 4 * QUERY_FLOATS;
  return {
    kernels: exports,
    rows: new Float32Array(buffer, 0, ROW_FLOATS),
    queries: new Float32Array(buffer, queriesAt, QUERY_FLOATS),
    sums: new Float64Array(buffer, queriesAt, QUERY_FLOATS / 2),
    entries: new Float32Array(buffer, entriesAt, ENTRY_FLOATS),
  };
};

export const useScratch = (): Scratch => {
  scratch ??= createScratch();
  return scratch;
};

export const roundUp = (x: number, step: number): number => Math.ceil(x / step) * step;

export const paddedOf = (channels: number): number => {
  if (channels > MAX_CHANNELS)
    throw new SimError('not-supported', `rows of ${channels} channels: expected at most ${MAX_CHANNELS}`);
  return roundUp(channels, CHANNEL_BLOCK);
};

/** Copies rows [from, to) into `dst`, each padded with zeros; rows of whole blocks go in one piece. */
export const loadRows = (
  dst: Float32Array,
  rows: Float32Array,
  channels: number,
  padded: number,
  from: number,
  to: number,
): void => {
  if (channels === padded) {
    dst.set(rows.subarray(from * channels, to * channels));
    return;
  }
  dst.fill(0, 0, (to - from) * padded);
  for (let row = from, at = 0; row < to; row++, at += padded)
    dst.set(rows.subarray(row * channels, (row + 1) * channels), at);
};

/** Copies entries [from, to) into the scratch, the last group of lanes filled up. */
export const loadEntries = (
  dst: Float32Array,
  row: Float32Array,
  from: number,
  to: number,
  fill: number,
): number => {
  dst.set(row.subarray(from, to));
  const count = roundUp(to - from, LANES);
  dst.fill(fill, to - from, count);
  return count;
};
