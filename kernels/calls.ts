/**
 * Kernel calls: what a backend executes. A program says what a step does (bytes, rows, flops); its calls say the same
 * with memory: which kernel, on which buffers, on which stream, after which calls. One file a kernel in calls/ declares
 * the arguments, computes the result in plain TypeScript (the oracle of the differential tests) and draws random cases;
 * calls.generated.h gives C++ the same names. The record that crosses the ABI is `kvt_call` in abi.h.
 */
import type { Random } from './random.ts';

/** Streams in which calls run in order; copies between tiers have one a direction, `cpu` and `nvme` are host threads. */
export const STREAMS = ['compute', 'h2d', 'd2h', 'cpu', 'nvme'] as const;
export type Stream = (typeof STREAMS)[number];

/** Where a buffer lies. `pageable` is host memory that is not pinned; `nvme` is a file. */
export const TIERS = ['hbm', 'dram', 'pageable', 'nvme'] as const;
export type Tier = (typeof TIERS)[number];

/** How `copy` moves its rows: one DMA each, all in one batched call, one 2-D copy, or by a kernel. */
export const COPY_MODES = ['dma', 'batch', '2d', 'kernel'] as const;

/**
 * How `gather` and `scatter` move rows: a kernel (over the link where one side is host memory: uva), one DMA a row, one
 * batched call, or packed by the CPU in `staging` and copied whole.
 */
export const ROW_MODES = ['kernel', 'dma', 'batch', 'staged'] as const;

/** Place in a buffer, bytes. `buffer` is what `Backend.allocate` returned. */
export interface Ref {
  readonly buffer: number;
  readonly offset: number;
}

/** Bytes from the first of `rows` rows to the end of the last; strides and rows in bytes. */
export const rowsExtent = (rows: number, rowBytes: number, stride: number): number =>
  rows === 0 ? 0 : (rows - 1) * stride + rowBytes;

/** Bounds of a `kvt_call` (abi.h). */
export const MAX_AFTER = 6;
export const MAX_REFS = 12;
export const MAX_INTS = 16;
export const MAX_REALS = 4;

/** One call, by name. `after`: positions in the list that must have ended; only earlier ones. */
export interface Call {
  readonly kernel: string;
  readonly stream: Stream;
  readonly after: readonly number[];
  readonly refs: Readonly<Record<string, Ref>>;
  readonly ints: Readonly<Record<string, number>>;
  readonly reals?: Readonly<Record<string, number>>;
}

/** What a reference kernel gets: its arguments, and bytes of its buffers from each ref on. */
export interface ReferenceArguments {
  readonly ints: Readonly<Record<string, number>>;
  readonly reals: Readonly<Record<string, number>>;
  /** Bytes from the ref to the end of its buffer; a view, so writing it writes the buffer. Throws when not given. */
  bytes(ref: string): Uint8Array;
  has(ref: string): boolean;
}

/** Which elements of an output are compared, and how close they must be to the reference. */
export interface OutputCheck {
  readonly ref: string;
  readonly bytes: number;
  readonly type: 'f32' | 'f16' | 'bf16' | 'u8' | 'u32' | 'i8';
  /** ‖out − reference‖ / ‖reference‖ for floats; for integers the share of elements that may differ. */
  readonly tolerance: number;
  /** Replaces the element-wise comparison where several answers are right (ties of a top-k); null = agrees. */
  readonly compare?: (got: Uint8Array, want: Uint8Array) => string | null;
}

/** A random small case of one kernel: buffers with their contents, one call, what to compare. Outputs start poisoned. */
export interface KernelCase {
  readonly label: string;
  /** By ref name. A number = that many bytes of poison (an output). */
  readonly buffers: Readonly<Record<string, { readonly tier: Tier; readonly data: Uint8Array | number }>>;
  readonly ints: Readonly<Record<string, number>>;
  readonly reals?: Readonly<Record<string, number>>;
  readonly outputs: readonly OutputCheck[];
}

/** The one export (`call`) of a file in calls/. */
export interface KernelSpec {
  readonly name: string;
  /** Names of the arguments, in the order in which they stand in `kvt_call`; shapes and units in the docstring. */
  readonly refs: readonly string[];
  /** Those of them that a call writes; what it compares in a differential test is among them, and its scratch. */
  readonly writes: readonly string[];
  readonly ints: readonly string[];
  readonly reals: readonly string[];
  /** Refs that a call may leave out; all others must be given. */
  readonly optional?: readonly string[];
  /** Bytes that a call touches from each ref on, as far as `ints` say; backends reject shorter buffers before they run. */
  extents?(ints: Readonly<Record<string, number>>): Readonly<Record<string, number>>;
  reference(given: ReferenceArguments): void;
  /** Draws a case; shapes small enough for the reference, odd sizes included. */
  randomCase(random: Random): KernelCase;
}
