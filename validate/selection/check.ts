/**
 * Selected sets: a policy's own scorer and top-k by kernels, against the TypeScript policy's arithmetic on the same
 * numbers (rounded to bf16, as kernels hold them). One file a scorer.
 */
import type { Backend } from '../../kernels/backend.ts';
import type { Call, Ref } from '../../kernels/calls.ts';
import { bf16Of, ofBf16, u32View } from '../../kernels/floats.ts';
import type { RealRows } from '../execute/verify.ts';

/** One KV head: rows [tokens, headDim] and queries [group, headDim], every number representable in bf16. */
export interface SelectionHead extends Omit<RealRows, 'values'> {
  readonly tokens: number;
  readonly group: number;
  readonly headDim: number;
}

/** How much is selected: `k` of `of` entries; the entries are pages, tokens or what the scorer ranks. */
export interface SelectionSize {
  readonly of: number;
  readonly k: number;
}

/** Sets by kernels and by the policy's arithmetic, one pair a selection. */
export interface SelectionPair {
  readonly byKernel: ArrayLike<number>;
  readonly byPolicy: ArrayLike<number>;
}

export interface SelectionCheck {
  /** Policies that select so, by name. */
  readonly policies: readonly string[];
  readonly kernels: readonly string[];
  run(device: SelectionDevice, head: SelectionHead, size: SelectionSize): Promise<readonly SelectionPair[]>;
}

/** |a ∩ b| / |a ∪ b|; two empty sets are the same. */
export const jaccard = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  const one = new Set(Array.from(a));
  const other = new Set(Array.from(b));
  let common = 0;
  for (const item of one) if (other.has(item)) common++;
  const all = one.size + other.size - common;
  return all === 0 ? 1 : common / all;
};

export const roundedToBf16 = (values: Float32Array): Float32Array =>
  Float32Array.from(values, (value) => ofBf16(bf16Of(value)));

export const bf16BytesOf = (values: ArrayLike<number>): Uint8Array =>
  new Uint8Array(Uint16Array.from(values, bf16Of).buffer);

/** Buffers of one check on a backend, and calls one after another. */
export class SelectionDevice {
  private readonly backend: Backend;
  private readonly buffers: number[] = [];

  constructor(backend: Backend) {
    this.backend = backend;
  }

  async put(data: Uint8Array): Promise<Ref> {
    const ref = await this.room(data.length);
    await this.backend.write(ref.buffer, 0, data);
    return ref;
  }

  /** `bytes` of zeros. */
  async room(bytes: number): Promise<Ref> {
    const buffer = this.backend.allocate('hbm', Math.max(4, bytes));
    this.buffers.push(buffer);
    await this.backend.fill(buffer, 0, Math.max(4, bytes), 'zero', 1);
    return { buffer, offset: 0 };
  }

  async run(calls: readonly Omit<Call, 'stream' | 'after'>[]): Promise<void> {
    const list = calls.map((call): Call => ({ ...call, stream: 'compute', after: [] }));
    await this.backend.run(list, { warmups: 0, repeats: 1 });
  }

  async numbers(ref: Ref, count: number): Promise<Uint32Array> {
    return u32View(await this.backend.read(ref.buffer, ref.offset, 4 * count));
  }

  free(): void {
    for (const buffer of this.buffers) this.backend.free(buffer);
  }
}
