/**
 * A native backend (cpu or cuda) as `Backend`: checks what it is given, encodes calls as `kvt_call` records (abi.h) and
 * leaves the rest to the addon. Operations of one backend run one after the other, off the main thread.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Addon, buildCommand, type Handle } from './addon.ts';
import {
  type Backend,
  type BackendName,
  type Device,
  type Fill,
  KernelError,
  type RunOptions,
  type RunTimes,
} from './backend.ts';
import { catalog } from './calls.generated.ts';
import { type Call, MAX_AFTER, MAX_INTS, MAX_REALS, MAX_REFS, STREAMS, TIERS, type Tier } from './calls.ts';
import { checkCalls, checkCount, checkRange, invalid, specOf } from './check-call.ts';

/** Order as in abi.h. */
const FILLS: readonly Fill[] = ['normal-f32', 'normal-bf16', 'normal-f16', 'bytes', 'poison', 'zero'];
const KERNELS = Object.keys(catalog);

// Byte offsets in a kvt_call.
const AFTER = 8;
const BUFFER = AFTER + 4 * MAX_AFTER;
const OFFSET = BUFFER + 4 * MAX_REFS;
const INTS = OFFSET + 8 * MAX_REFS;
const REALS = INTS + 8 * MAX_INTS;
const RECORD_BYTES = REALS + 8 * MAX_REALS;

const encode = (view: DataView, start: number, call: Call): void => {
  const spec = specOf(call.kernel);
  view.setInt32(start, KERNELS.indexOf(call.kernel), true);
  view.setInt32(start + 4, STREAMS.indexOf(call.stream), true);
  for (let i = 0; i < MAX_AFTER; i++) view.setInt32(start + AFTER + 4 * i, call.after[i] ?? -1, true);
  for (let i = 0; i < MAX_REFS; i++) {
    const ref = i < spec.refs.length ? call.refs[spec.refs[i]] : undefined;
    view.setInt32(start + BUFFER + 4 * i, ref?.buffer ?? -1, true);
    view.setBigUint64(start + OFFSET + 8 * i, BigInt(ref?.offset ?? 0), true);
  }
  spec.ints.forEach((name, i) => {
    view.setBigInt64(start + INTS + 8 * i, BigInt(call.ints[name]), true);
  });
  spec.reals.forEach((name, i) => {
    view.setFloat64(start + REALS + 8 * i, call.reals?.[name] ?? 0, true);
  });
};

/** Calls as kvt_call records; they were checked. */
const encodeCalls = (calls: readonly Call[]): Uint8Array => {
  const records = new Uint8Array(calls.length * RECORD_BYTES);
  const view = new DataView(records.buffer);
  calls.forEach((call, at) => {
    encode(view, at * RECORD_BYTES, call);
  });
  return records;
};

class NativeBackend implements Backend {
  readonly name: BackendName;
  readonly device: Device;
  private readonly addon: Addon;
  private readonly handle: Handle;
  private readonly sizes = new Map<number, number>();

  constructor(name: BackendName, device: Device, addon: Addon, handle: Handle) {
    this.name = name;
    this.device = device;
    this.addon = addon;
    this.handle = handle;
  }

  allocate(tier: Tier, bytes: number): number {
    if (!TIERS.includes(tier)) throw invalid(`tier ${tier}: expected one of ${TIERS.join(', ')}`);
    checkCount('allocate: bytes', bytes, 1);
    const buffer = this.addon.allocate(this.handle, TIERS.indexOf(tier), bytes);
    this.sizes.set(buffer, bytes);
    return buffer;
  }

  free(buffer: number): void {
    if (!this.sizes.delete(buffer)) throw invalid(`free: no buffer ${buffer}`);
    this.addon.free(this.handle, buffer);
  }

  private check(buffer: number, offset: number, bytes: number): void {
    checkRange(buffer, this.sizes.get(buffer), offset, bytes);
  }

  async write(buffer: number, offset: number, data: ArrayBufferView): Promise<void> {
    this.check(buffer, offset, data.byteLength);
    await this.addon.write(this.handle, buffer, offset, data);
  }

  async read(buffer: number, offset: number, bytes: number): Promise<Uint8Array> {
    this.check(buffer, offset, bytes);
    const to = new Uint8Array(bytes);
    await this.addon.read(this.handle, buffer, offset, to);
    return to;
  }

  async fill(buffer: number, offset: number, bytes: number, fill: Fill, seed: number): Promise<void> {
    this.check(buffer, offset, bytes);
    if (!FILLS.includes(fill)) throw invalid(`fill ${fill}: expected one of ${FILLS.join(', ')}`);
    checkCount('fill: seed', seed, 0);
    await this.addon.fill(this.handle, buffer, offset, bytes, FILLS.indexOf(fill), seed);
  }

  async run(calls: readonly Call[], options: RunOptions = {}): Promise<RunTimes> {
    const { warmups = 3, repeats = 10, inner = 1, perCall = false, graph = false, flushBytes = 0 } = options;
    checkCount('run: warmups', warmups, 0);
    checkCount('run: repeats', repeats, 0);
    checkCount('run: inner', inner, 1);
    checkCount('run: flushBytes', flushBytes, 0);
    checkCalls(calls, (buffer) => this.sizes.get(buffer));
    const totalNs = new Float64Array(repeats);
    const columns = perCall ? repeats * calls.length : 0;
    const startNs = new Float64Array(columns);
    const endNs = new Float64Array(columns);
    const numbers = { warmups, repeats, inner, perCall: Number(perCall), graph: Number(graph), flushBytes };
    const used = await this.addon.run(this.handle, encodeCalls(calls), numbers, totalNs, startNs, endNs);
    return { totalNs, startNs, endNs, graph: used };
  }

  async sense(): Promise<Readonly<Record<string, number>>> {
    return JSON.parse(await this.addon.sense(this.handle));
  }

  close(): void {
    this.sizes.clear();
    this.addon.close(this.handle);
  }
}

/** What a native backend may be told. */
export interface NativeOptions {
  /** What paths of the nvme tier's files begin with; default a name in the folder for temporary files. */
  readonly file?: string;
  /** Worker threads of a stream; 0 (default) = one a core. */
  readonly threads?: number;
  /** Requests in flight at a file; default 16 (cpu) or 32 (cuda). */
  readonly queueDepth?: number;
  /** Highest instruction set level (cpu/kernel.h) that the CPU backend may use; default what the processor has. */
  readonly level?: number;
  /** 1 = a CPU kernel that leaves a buffer faults (KernelError 'fault') instead of reading on; for tests. */
  readonly fences?: 0 | 1;
}

const DEFAULTS: NativeOptions = { file: join(tmpdir(), `kvtier-${process.pid}`), threads: 0 };

/**
 * Opens `library` ('' = the CPU backend in the addon), which `device` describes. Throws KernelError: no memory, no device.
 */
export const openNative = async (
  name: BackendName,
  addon: Addon,
  library: string,
  device: Device,
  options: NativeOptions = {},
): Promise<Backend> =>
  new NativeBackend(
    name,
    device,
    addon,
    await addon.open(library, JSON.stringify({ ...DEFAULTS, ...options })),
  );

const DEVICE_FIELDS = ['name', 'driver', 'runtime', 'units', 'l2Bytes', 'hbmBytes', 'dramBytes'] as const;

/** The device of a probe's answer. Throws KernelError when the binary was built for other calls or speaks nonsense. */
export const deviceOf = (answer: { digest: string; device: string }, digest: string): Device => {
  if (answer.digest !== digest)
    throw new KernelError(
      'unsupported',
      `built from other kernel calls than these; run \`${buildCommand()}\` again`,
    );
  const device: Device = JSON.parse(answer.device);
  const missing = DEVICE_FIELDS.find((field) => device[field] === undefined);
  if (missing !== undefined) throw new KernelError('unsupported', `the device does not say its ${missing}`);
  return device;
};
