/**
 * What a kernel benchmark is: sites, each a few calls on buffers of its own and the bytes that they cannot avoid moving.
 * main.ts times them and prints what they reach of the memory bandwidth.
 */
import type { Backend, Fill } from '../backend.ts';
import type { Call, Ref } from '../calls.ts';

export interface Site {
  readonly label: string;
  /** Bytes that one call reads and writes at least. */
  readonly bytes: number;
  /** Bytes of memory that it needs. */
  readonly footprint: number;
  /** Allocates and fills buffers; the calls differ in buffers, so that no cache serves them. */
  build(memory: Memory): Promise<readonly Call[]>;
}

export interface KernelBench {
  readonly kernel: string;
  sites(backend: Backend): readonly Site[];
}

/** Buffers of one site, freed together. */
export interface Memory {
  fill(bytes: number, kind: Fill): Promise<Ref>;
  words(values: Uint32Array): Promise<Ref>;
  run(calls: readonly Call[]): Promise<void>;
  free(): void;
}

export const memoryOf = (backend: Backend): Memory => {
  const buffers: number[] = [];
  const place = (bytes: number): Ref => {
    const buffer = backend.allocate('hbm', bytes);
    buffers.push(buffer);
    return { buffer, offset: 0 };
  };
  return {
    async fill(bytes, kind) {
      const ref = place(bytes);
      await backend.fill(ref.buffer, 0, bytes, kind, buffers.length);
      return ref;
    },
    async words(values) {
      const ref = place(values.byteLength);
      await backend.write(ref.buffer, 0, values);
      return ref;
    },
    async run(calls) {
      await backend.run(calls, { warmups: 0, repeats: 1 });
    },
    free() {
      for (const buffer of buffers) backend.free(buffer);
    },
  };
};

/** Copies of a site's buffers that together exceed the last cache four times; at most 16. */
export const rotations = (backend: Backend, bytes: number): number =>
  Math.min(16, Math.max(1, Math.ceil((4 * Math.max(backend.device.l2Bytes, 2 ** 25)) / bytes)));

/** One call on the compute stream. */
export const callOf = (
  kernel: string,
  refs: Readonly<Record<string, Ref>>,
  ints: Readonly<Record<string, number>>,
  reals: Readonly<Record<string, number>> = {},
): Call => ({ kernel, stream: 'compute', after: [], refs, ints, reals });
