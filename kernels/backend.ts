/**
 * The interface of a kernel backend: memory in tiers, and lists of kernel calls that run on it and are timed. `cuda` and
 * `cpu` are native (abi.h, through the addon), `reference` is plain TypeScript. load.ts picks one and says why.
 */
import type { Call, Tier } from './calls.ts';

export const BACKENDS = ['cuda', 'cpu', 'reference'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** What a kernel error was, so that a caller can name the remedy. */
export type KernelErrorCode =
  | 'invalid'
  | 'no-device'
  | 'no-driver'
  | 'driver-too-old'
  | 'out-of-device-memory'
  | 'out-of-host-memory'
  | 'unsupported'
  | 'fault'
  | 'io';

/** Thrown by every method of a backend; the message is one line. */
export class KernelError extends Error {
  readonly code: KernelErrorCode;
  constructor(code: KernelErrorCode, message: string) {
    super(message);
    this.name = 'KernelError';
    this.code = code;
  }
}

/** What a backend runs on. Zero where the backend can't know. */
export interface Device {
  /** "NVIDIA H100 80GB HBM3", a CPU's model name, or "TypeScript". */
  readonly name: string;
  readonly driver: string;
  readonly runtime: string;
  /** Streaming multiprocessors, or cores. */
  readonly units: number;
  /** The cache before hbm: a GPU's L2, a processor's last level. */
  readonly l2Bytes: number;
  readonly hbmBytes: number;
  readonly dramBytes: number;
  /** Clusters of 1, 2, … blocks of a multiprocessor each that run at once; absent or empty where blocks form none. */
  readonly clusters?: readonly number[];
  /** Kernels that this backend has. */
  readonly kernels: readonly string[];
  /** What stands in for something else: "nvme is a file on a virtual disk", "hbm is host memory". */
  readonly emulated: readonly string[];
}

/** How a buffer is filled on the device: nothing crosses the link. `poison` is NaN in every float type. */
export type Fill = 'normal-f32' | 'normal-bf16' | 'normal-f16' | 'bytes' | 'poison' | 'zero';

export interface RunOptions {
  /** Runs before the timed ones; default 3. */
  readonly warmups?: number;
  /** Timed runs; default 10. */
  readonly repeats?: number;
  /** Times the list is run back to back inside one timed region (for lists of a few microseconds); default 1. */
  readonly inner?: number;
  /** Also times every call, in separate runs, so that the events don't slow the whole step; default false. */
  readonly perCall?: boolean;
  /** Records the list once and replays it (CUDA graph), where every call of it allows that; default false. */
  readonly graph?: boolean;
  /**
   * Puts this many bytes of other memory through the cache between runs, outside the timed region; default 0. Where it is not
   * 0 and threads of a GPU's host take part, other memory passes through the host's caches as well.
   */
  readonly flushBytes?: number;
}

export interface RunTimes {
  /** Time of the whole list, one value a repeat (divided by `inner`), ns. */
  readonly totalNs: Float64Array;
  /** Start and end of each call from the list's start, row-major [repeats, calls], ns; empty without `perCall`. */
  readonly startNs: Float64Array;
  readonly endNs: Float64Array;
  /** True when the list was replayed as a graph. */
  readonly graph: boolean;
}

export interface Backend {
  readonly name: BackendName;
  readonly device: Device;
  /** Bytes in a tier, aligned to 4096; `nvme` makes a file. Contents are undefined. */
  allocate(tier: Tier, bytes: number): number;
  free(buffer: number): void;
  write(buffer: number, offset: number, data: ArrayBufferView): Promise<void>;
  read(buffer: number, offset: number, bytes: number): Promise<Uint8Array>;
  fill(buffer: number, offset: number, bytes: number, fill: Fill, seed: number): Promise<void>;
  /** Runs a list of calls; a fault in a kernel rejects with a KernelError and leaves the process alive. */
  run(calls: readonly Call[], options?: RunOptions): Promise<RunTimes>;
  /** Clocks (MHz), temperature (°C), power (W) now, where the machine tells; for logs of measurements. */
  sense(): Promise<Readonly<Record<string, number>>>;
  close(): void;
}
