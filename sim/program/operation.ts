/**
 * The typed operations of a program: what one step does, with bytes, rows and flops, never time.
 * The engine times them (timing/), a kernel backend executes them (kernels/). Pure data; imports nothing.
 */

/** Tiers by plain name; `remote` is another machine's memory or a store behind the network. */
export type TierName = 'hbm' | 'dram' | 'nvme' | 'remote';

/** In-order queues that an operation is submitted to, as on a GPU; `cpu` is the host's own worker. */
export type StreamName = 'compute' | 'h2d' | 'd2h' | 'cpu' | 'nvme';

/** How bytes cross a link: copy engine (one call a row, or one batched call), zero-copy kernel reads, staged. */
export type TransferMode = 'dma' | 'dma-batch' | 'uva' | 'pageable' | 'cpu-gather' | 'gds';

/** Size of the aligned pieces of a region by which a fetch says how densely its rows lie, bytes. */
export const PIECE_BYTES = 65_536;

export type TierBytes = Readonly<Partial<Record<TierName, number>>>;

/** From where to where in a list, 0..1: what one piece of work in several takes. */
export type Share = readonly [number, number];

interface OperationBase {
  /** Transformer layer, or -1 for work that belongs to no layer. */
  readonly layer: number;
  readonly stream: StreamName;
  /** Positions in the program of the operations that must end before this one starts. */
  readonly after: readonly number[];
}

/**
 * The kernel of our own that does a piece of declared work, by its name in kernels/calls. `counts` are of one KV head of
 * one sequence, means over the heads; `shape` is what all heads share.
 */
export interface KernelCall {
  readonly kernel: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly shape?: Readonly<Record<string, number>>;
}

/** Ranks blocks or tokens: reads an index (per tier) and spends flops. `kernels` = launches it takes. */
export interface ScoreOperation extends OperationBase {
  readonly kind: 'score';
  readonly index: string;
  readonly readBytes: TierBytes;
  readonly writeBytes: TierBytes;
  readonly flops: number;
  /** Flops of matrix products in the KV's precision, on tensor cores where there are any; absent = none. */
  readonly matrixFlops?: number;
  readonly kernels: number;
  readonly where: 'gpu' | 'cpu';
  /** Sequences times KV heads; absent = not known. */
  readonly rows?: number;
  /** Query heads of a row; absent = not known. */
  readonly heads?: number;
  /** True where it lays all raw rows that the layer attends to side by side. */
  readonly laysOut?: boolean;
  /** Absent = no kernel of our own does it. */
  readonly call?: KernelCall;
}

/** Top-k: `rows` independent selections of `k` out of `of` candidates each. */
export interface SelectOperation extends OperationBase {
  readonly kind: 'select';
  readonly rows: number;
  readonly of: number;
  readonly k: number;
  /** 'counts': keys are small 16-bit counts, of which a bucket each is kept; absent = 32-bit numbers. */
  readonly keys?: 'counts';
}

/** Brings `rows` rows of `rowBytes` contiguous bytes up to where attention runs. */
export interface FetchOperation extends OperationBase {
  readonly kind: 'fetch';
  readonly from: TierName;
  readonly to: TierName;
  readonly rows: number;
  readonly rowBytes: number;
  readonly mode: TransferMode;
  /** Bytes of the region that the rows are scattered over, where it matters (uva); absent = not known. */
  readonly regionBytes?: number;
  /** Pieces of `PIECE_BYTES` in which the rows lie, read in ascending order; absent = rows lie and come at random. */
  readonly pieces?: number;
  /** Bytes of the pieces that a whole step visits, in all such regions; absent = all of this region. */
  readonly visitedBytes?: number;
  /** True where the host can name the rows only after the GPU has chosen them; kernels and gathering threads need not. */
  readonly awaitsChoice?: boolean;
  /** Which of the layer's chosen tokens of one stored form it brings; absent = other data (an index, a cache's refill). */
  readonly chosen?: { readonly form: number; readonly share: Share };
}

/** The opposite direction: writes rows out to a slower tier. */
export interface SpillOperation extends OperationBase {
  readonly kind: 'spill';
  readonly from: TierName;
  readonly to: TierName;
  readonly rows: number;
  readonly rowBytes: number;
  readonly mode: TransferMode;
}

/** Turns coded KV back into the attention's precision (on the GPU, in HBM). */
export interface DecodeOperation extends OperationBase {
  readonly kind: 'decode';
  readonly codec: string;
  readonly inBytes: number;
  readonly outBytes: number;
  readonly flops: number;
}

/** Turns KV into a codec's form, or writes index entries (on the GPU, in HBM). */
export interface EncodeOperation extends OperationBase {
  readonly kind: 'encode';
  readonly codec: string;
  /** The half of the tokens that is coded; absent = keys and values. */
  readonly half?: 'keys' | 'values';
  readonly inBytes: number;
  readonly outBytes: number;
  readonly flops: number;
}

/** KV of one stored form that attention reads coded and decodes itself. */
export interface CodedKv {
  readonly codec: string;
  /** Of all rows, payload and scales. */
  readonly bytes: number;
  /** Share of the operation's keys. */
  readonly share: number;
  /** Flops of decoding, on plain cores; they are part of the operation's `flops`. */
  readonly decodeFlops: number;
}

/**
 * Attention. `queries` = query tokens a sequence (1 in decode; the prompt chunk in prefill, then causal).
 * `contextTokens` = keys that one query head reads, averaged over KV heads. `readBytes` = KV bytes by tier.
 * Emits (m, l, o) per query head; `parts` > 1 asks for a merge operation after it.
 */
export interface AttendOperation extends OperationBase {
  readonly kind: 'attend';
  readonly sequences: number;
  readonly queries: number;
  readonly contextTokens: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly readBytes: TierBytes;
  readonly flops: number;
  readonly where: 'gpu' | 'cpu';
  /** Tokens of a page of KV, to which rows are filled up; absent = 64, as where all of it lies in one piece. */
  readonly pageTokens?: number;
  /** Tokens of each row of a sequence, one row a KV head, in the order in which kernels read them; absent = all alike. */
  readonly rowTokens?: readonly number[];
  /** What of it is coded, by stored form: a kernel reads one form at a time. Absent = raw KV alone. */
  readonly coded?: readonly CodedKv[];
  /** Which of the layer's chosen tokens it reads: those that lie ready, and a share of those outside HBM; absent = all. */
  readonly covers?: { readonly resident: boolean; readonly far: Share };
}

/** Log-sum-exp merge of `parts` partial outputs (m, l, o) of all query heads. */
export interface MergeOperation extends OperationBase {
  readonly kind: 'merge';
  readonly parts: number;
  readonly bytes: number;
}

/** Writes the new tokens' K and V to HBM. */
export interface AppendOperation extends OperationBase {
  readonly kind: 'append';
  readonly bytes: number;
  /** Whether the attention right behind it can write them (sim/timing/taken-along.ts); absent = not asked yet. */
  readonly isTakenAlong?: boolean;
}

/** One matrix product of a `dense` operation: [m,k] × [k,n]; `weightBytes` may exceed n·k·b for scaled formats. */
export interface Gemm {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly weightBytes: number;
  /** Element-wise kernels around it, where they are not those that the stack puts around a layer's products. */
  readonly companions?: number;
}

/** The layer's projections and MLP: `part` says which. */
export interface DenseOperation extends OperationBase {
  readonly kind: 'dense';
  readonly part: string;
  readonly gemms: readonly Gemm[];
  /** Bytes of one activation or weight element as computed with (2 for bf16, 1 for fp8). */
  readonly elementBytes: number;
}

/** Blocks its stream until `after` has ended; costs nothing itself (an event wait). */
export interface WaitOperation extends OperationBase {
  readonly kind: 'wait';
}

export type Operation =
  | ScoreOperation
  | SelectOperation
  | FetchOperation
  | DecodeOperation
  | AttendOperation
  | MergeOperation
  | AppendOperation
  | EncodeOperation
  | SpillOperation
  | DenseOperation
  | WaitOperation;

export type OperationKind = Operation['kind'];

/** A program: operations in submission order; `after` only points backwards, so it is acyclic by construction. */
export interface Program {
  readonly operations: readonly Operation[];
}
