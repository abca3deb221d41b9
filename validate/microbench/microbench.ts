/**
 * A microbenchmark: places at which one law of the cost model shows, each a few operations with the calls that do them.
 * The numbering is that of the protocol in docs/calibration.md. Sites are data; how they are timed is in run.ts.
 */
import type { RunOptions } from '../../kernels/backend.ts';
import type { Call, Stream } from '../../kernels/calls.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { Layout } from '../execute/memory.ts';

/** What a machine allows: sizes follow from it, so that the same benchmarks run on a card and on a laptop. */
export interface Bounds {
  readonly backend: string;
  readonly units: number;
  readonly l2Bytes: number;
  /** Bytes that benchmarks may take of each tier. */
  readonly hbmBytes: number;
  readonly dramBytes: number;
  readonly kernels: ReadonlySet<string>;
}

export interface Site {
  readonly id: string;
  /** Benchmark that it is put down to, where that isn't the file's own. */
  readonly law?: string;
  /** What is predicted for one pass; empty where the time is a quantity itself. */
  readonly operations: readonly Operation[];
  readonly reading?: string;
  readonly readingBytes?: number;
  /** Passes that the list of calls makes, each over other memory. */
  readonly passes: number;
  readonly options?: RunOptions;
  /** True where a step has just written what is read: a processor finds it in its caches. */
  readonly fresh?: boolean;
  build(layout: Layout): readonly Call[];
}

/** The one export (`microbench`) of a file in this folder. */
export interface Microbench {
  readonly name: string;
  readonly number: number;
  readonly title: string;
  /** Kernels without which it cannot run. */
  readonly kernels: readonly string[];
  sites(bounds: Bounds): readonly Site[];
}

/** Bytes that pass through the cache between two visits of a place, so that nothing of it is left there. */
export const bytesBetween = ({ l2Bytes }: Bounds): number => 4 * l2Bytes;

/** Bytes of a site's passes on a processor, whose caches are emptied before each site and which meets each place once. */
export const PROCESSOR_BYTES = 2 ** 26;
const PROCESSOR_PASSES = 3;

/**
 * Passes over memory of `bytes` each, as far as half the memory goes: on a GPU as many as leave no place in the cache until
 * its next visit, on a processor as many as make a median.
 */
export const passesFor = (bytes: number, bounds: Bounds, most = 64): number => {
  const fewest =
    bounds.backend === 'cuda'
      ? Math.ceil(bytesBetween(bounds) / bytes)
      : Math.max(PROCESSOR_PASSES, Math.ceil(PROCESSOR_BYTES / bytes));
  return Math.max(1, Math.min(most, fewest, Math.floor(bounds.hbmBytes / 2 / bytes)));
};

/** Arithmetic that an operation says it does, flops. */
export const flopsOf = (operation: Operation): number =>
  operation.kind === 'dense'
    ? operation.gemms.reduce((sum, { m, n, k }) => sum + 2 * m * n * k, 0)
    : 'flops' in operation
      ? operation.flops
      : 0;

/** Codec of the KV that a site codes or attends to; undefined where it is plain numbers. */
export const codecOf = ({
  operations: [operation],
}: {
  readonly operations: readonly Operation[];
}): string | undefined => {
  if (operation?.kind === 'encode' || operation?.kind === 'decode') return operation.codec;
  return operation?.kind === 'attend' ? operation.coded?.[0]?.codec : undefined;
};

/** Powers of `factor` from `from` to `to`, both included where hit. */
export const powers = (from: number, to: number, factor: number): readonly number[] => {
  const values: number[] = [];
  for (let value = from; value <= to; value *= factor) values.push(value);
  return values;
};

/** Calls of one stream, one after another; `make` gets the number of the pass. */
export const repeated = (
  passes: number,
  make: (pass: number) => Omit<Call, 'stream' | 'after'>,
  stream: Stream,
) => Array.from({ length: passes }, (_, pass): Call => ({ ...make(pass), stream, after: [] }));

/**
 * Calls on a copy stream, each followed by an empty kernel that waits for it and that the next one waits for: as in a
 * step, the latency of a transfer shows.
 */
export const chained = (
  passes: number,
  make: (pass: number) => Omit<Call, 'stream' | 'after'>,
  stream: Stream,
): readonly Call[] =>
  Array.from({ length: passes }, (_, pass): readonly Call[] => [
    { ...make(pass), stream, after: pass === 0 ? [] : [2 * pass - 1] },
    { kernel: 'empty', stream: 'compute', after: [2 * pass], refs: {}, ints: {} },
  ]).flat();

const idle = { layer: 0, after: [] } as const;

/** The empty kernel after a transfer, as an operation; it waits for position 0. */
export const emptyOperation: Operation = {
  ...idle,
  kind: 'score',
  index: 'empty',
  readBytes: {},
  writeBytes: {},
  flops: 0,
  kernels: 1,
  where: 'gpu',
  stream: 'compute',
  after: [0],
};

/** Rows over the link as an operation. */
export const transferOf = (
  way: 'h2d' | 'd2h',
  rows: number,
  rowBytes: number,
  mode: 'dma' | 'dma-batch' | 'pageable' | 'cpu-gather',
): Operation =>
  way === 'h2d'
    ? { ...idle, kind: 'fetch', from: 'dram', to: 'hbm', rows, rowBytes, mode, stream: 'h2d' }
    : { ...idle, kind: 'spill', from: 'hbm', to: 'dram', rows, rowBytes, mode, stream: 'd2h' };

/** 32 bits that tell nothing of those of other numbers: two rounds of a mixing hash (C. Wellons, lowbias32). */
export const mixed = (number: number): number => {
  let bits = number;
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return (bits ^ (bits >>> 16)) >>> 0;
};

/**
 * Ascending row numbers below `of`, the same in every run: one in each of `rows` equal stretches, anywhere within it, and
 * there independently of what other seeds draw: passes that chose the rows of others would find them in a cache.
 */
export const ascendingRows = (rows: number, of: number, seed: number): Uint32Array => {
  const out = new Uint32Array(rows);
  const first = mixed(seed + 1);
  for (let i = 0; i < rows; i++) {
    const from = Math.floor((i * of) / rows);
    const until = Math.floor(((i + 1) * of) / rows);
    out[i] = from + (mixed(first ^ i) % Math.max(1, until - from));
  }
  return out;
};

/** Random row numbers below `of`, the same in every run: a multiplicative walk that repeats no row before all were. */
export const scatteredRows = (rows: number, of: number, seed: number): Uint32Array => {
  const count = Math.max(1, of);
  // Any odd step is coprime to a power of two; walk one that is at least `of` long and skip what lies beyond.
  const length = 2 ** Math.ceil(Math.log2(count));
  const step = (Math.floor(length * 0.618_033_988_75) | 1) + 2 * seed;
  const out = new Uint32Array(rows);
  let at = seed % length;
  for (let i = 0; i < rows; i++) {
    do at = (at + step) % length;
    while (at >= count);
    out[i] = at;
  }
  return out;
};
