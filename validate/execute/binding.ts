/**
 * A list of calls in the making: what each operation becomes, with stream, dependencies and the bytes that its calls
 * touch by their own arguments. Only the places are symbolic (memory.ts) until buffers exist.
 */
import { type Call, MAX_AFTER, type Ref } from '../../kernels/calls.ts';
import type { Operation, StreamName } from '../../sim/program/operation.ts';
import { Layout } from './memory.ts';
import { once } from './once.ts';

/** Bytes by what they cross: HBM by kernels, the host link by direction, host memory by the CPU. */
export interface TouchedBytes {
  hbm: number;
  h2d: number;
  d2h: number;
  dram: number;
}

export const noBytes = (): TouchedBytes => ({ hbm: 0, h2d: 0, d2h: 0, dram: 0 });

/** An operation that has no kernel of its own and runs as `work` of the same bytes, flops and launches. */
export interface StandIn {
  readonly what: string;
  count: number;
}

/** What a call leaves for a later one of its layer. */
interface Left {
  readonly ref: Ref;
  readonly bytes: number;
}

type Arguments = Pick<Call, 'refs' | 'ints' | 'reals'>;

export class Binding {
  readonly layout: Layout;
  readonly calls: Call[] = [];
  /** Operation of each call, by its position in the program. */
  readonly operationOf: number[] = [];
  readonly bytes = noBytes();
  readonly standIns: StandIn[] = [];
  private readonly operations: readonly Operation[];
  /** Last calls of each operation; those of what it waits for where it has none. */
  private readonly ends: (readonly number[])[] = [];
  private readonly waiting = new Map<StreamName, readonly number[]>();
  /** What calls of the layer at hand leave for its next ones, and what all layers share, by name. */
  private readonly handed = new Map<string, Left>();
  private readonly shared = new Map<string, Ref>();
  private current = 0;
  private first = 0;

  constructor(operations: readonly Operation[], layout = new Layout()) {
    this.operations = operations;
    this.layout = layout;
  }

  /** Leaves `bytes` for a later call of the layer. */
  leave(name: string, ref: Ref, bytes: number): void {
    this.handed.set(name, { ref, bytes });
  }

  /** What an earlier call of the layer left, once. */
  take(name: string): Left | undefined {
    const left = this.handed.get(name);
    this.handed.delete(name);
    return left;
  }

  /** The same; undefined where none left as many `bytes`. */
  left(name: string, bytes: number): Ref | undefined {
    const left = this.take(name);
    return left !== undefined && left.bytes >= bytes ? left.ref : undefined;
  }

  /** A place that all layers share, made by the first that asks. */
  once(name: string, make: () => Ref): Ref {
    return once(this.shared, name, make);
  }

  /** Calls that follow are those of operation `at`. */
  begin(at: number): void {
    if (this.operations[at].layer !== this.operations[this.current].layer) this.handed.clear();
    this.current = at;
    this.first = this.calls.length;
  }

  end(): void {
    const made = this.calls.length - 1;
    this.ends[this.current] = made >= this.first ? [made] : this.waitsFor(this.operations[this.current]);
  }

  /** What follows on a stream waits for what the operation at hand waits for. */
  wait(): void {
    const operation = this.operations[this.current];
    this.waiting.set(operation.stream, this.waitsFor(operation));
  }

  add(kernel: string, given: Arguments): void {
    const operation = this.operations[this.current];
    const { stream } = operation;
    const isFirst = this.calls.length === this.first;
    const after = isFirst ? this.waitsFor(operation) : [];
    if (isFirst) this.waiting.delete(stream);
    this.calls.push({ kernel, stream, after: this.needed(after, stream), ...given });
    this.operationOf.push(this.current);
  }

  touch(what: keyof TouchedBytes, bytes: number): void {
    this.bytes[what] += bytes;
  }

  standIn(what: string): void {
    const known = this.standIns.find((standIn) => standIn.what === what);
    if (known === undefined) this.standIns.push({ what, count: 1 });
    else known.count++;
  }

  /** Work of the same size as an operation's, over buffers that other layers do not use. */
  work(
    place: 'gpu' | 'cpu',
    size: {
      hbmBytes: number;
      dramBytes: number;
      writeBytes: number;
      flops: number;
      matrixFlops: number;
      launches: number;
    },
  ): void {
    const onCpu = place === 'cpu';
    const near = words(onCpu ? 0 : size.hbmBytes);
    const far = words(size.dramBytes);
    const write = words(size.writeBytes);
    const readBytes = near > 0 ? near : far;
    const area = onCpu ? 'hostOutputs' : 'outputs';
    const common = { launches: Math.max(1, Math.round(size.launches)) };
    this.add('work', {
      refs: {
        ...(readBytes > 0 ? { read: this.layout.place(near > 0 ? 'kv' : 'host', readBytes) } : {}),
        ...(write > 0 ? { write: this.layout.place(area, write) } : {}),
      },
      ints: {
        readBytes,
        writeBytes: write,
        flops: Math.round(size.flops),
        matrixFlops: Math.round(size.matrixFlops),
        ...common,
      },
    });
    if (near > 0 && far > 0)
      this.add('work', {
        refs: { read: this.layout.place('host', far) },
        ints: { readBytes: far, writeBytes: 0, flops: 0, matrixFlops: 0, launches: 1 },
      });
    this.touch('hbm', onCpu ? 0 : near + write);
    this.touch(onCpu ? 'dram' : 'h2d', far + (onCpu ? write : 0));
  }

  private waitsFor({ after, stream }: Operation): readonly number[] {
    const calls = after.flatMap((id) => this.ends[id] ?? []);
    return [...new Set([...calls, ...(this.waiting.get(stream) ?? [])])];
  }

  /** Streams run in order: the last call of each other stream is enough. */
  private needed(after: readonly number[], stream: string): readonly number[] {
    const last = new Map<string, number>();
    for (const call of after) {
      const on = this.calls[call].stream;
      if (on !== stream) last.set(on, Math.max(call, last.get(on) ?? -1));
    }
    return [...last.values()].sort((a, b) => a - b).slice(0, MAX_AFTER);
  }
}

const words = (bytes: number): number => 4 * Math.floor(bytes / 4);

/** Places of a call's arguments under the real buffers. */
export const withRefs = (call: Call, real: (ref: Ref) => Ref): Call => ({
  ...call,
  refs: Object.fromEntries(Object.entries(call.refs).map(([name, ref]) => [name, real(ref)])),
});
