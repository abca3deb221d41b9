/**
 * The reference backend: every kernel in plain TypeScript, on buffers of this process. The oracle of the differential
 * tests, and what serves when neither the addon nor a GPU is there; its times say nothing of a machine.
 */
import type { Backend, Fill, RunOptions, RunTimes } from './backend.ts';
import { catalog } from './calls.generated.ts';
import { type Call, type Ref, TIERS, type Tier } from './calls.ts';
import { checkCalls, checkCount, checkRange, invalid, specOf } from './check-call.ts';
import { bf16Of, f16Of } from './floats.ts';
import { createRandom } from './random.ts';

const filled = (target: Uint8Array, fill: Fill, seed: number): void => {
  const random = createRandom(seed);
  if (fill === 'zero') target.fill(0);
  else if (fill === 'poison') target.fill(0xff);
  else if (fill === 'bytes') for (let i = 0; i < target.length; i++) target[i] = random.uint32() & 255;
  else if (fill === 'normal-f32') {
    const values = Float32Array.from({ length: target.length >> 2 }, () => random.normal());
    target.set(new Uint8Array(values.buffer));
  } else {
    const of = fill === 'normal-bf16' ? bf16Of : f16Of;
    const values = Uint16Array.from({ length: target.length >> 1 }, () => of(random.normal()));
    target.set(new Uint8Array(values.buffer));
  }
};

class ReferenceBackend implements Backend {
  readonly name = 'reference';
  readonly device = {
    name: 'TypeScript',
    driver: '',
    runtime: `node ${process.version}`,
    units: 1,
    l2Bytes: 0,
    hbmBytes: 0,
    dramBytes: 0,
    kernels: Object.keys(catalog),
    emulated: ['every tier is memory of this process'],
  };
  private readonly buffers = new Map<number, Uint8Array>();
  private next = 0;

  allocate(tier: Tier, bytes: number): number {
    if (!TIERS.includes(tier)) throw invalid(`tier ${tier}: expected one of ${TIERS.join(', ')}`);
    checkCount('allocate: bytes', bytes, 1);
    this.buffers.set(this.next, new Uint8Array(bytes));
    return this.next++;
  }

  free(buffer: number): void {
    if (!this.buffers.delete(buffer)) throw invalid(`free: no buffer ${buffer}`);
  }

  private at({ buffer, offset }: Ref, bytes?: number): Uint8Array {
    const all = this.buffers.get(buffer) ?? new Uint8Array(0);
    const end = bytes === undefined ? all.length : offset + bytes;
    checkRange(buffer, this.buffers.get(buffer)?.length, offset, end - offset);
    return all.subarray(offset, end);
  }

  async write(buffer: number, offset: number, data: ArrayBufferView): Promise<void> {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.at({ buffer, offset }, bytes.length).set(bytes);
  }

  async read(buffer: number, offset: number, bytes: number): Promise<Uint8Array> {
    return this.at({ buffer, offset }, bytes).slice();
  }

  async fill(buffer: number, offset: number, bytes: number, fill: Fill, seed: number): Promise<void> {
    filled(this.at({ buffer, offset }, bytes), fill, seed);
  }

  private call({ kernel, refs, ints, reals = {} }: Call): void {
    specOf(kernel).reference({
      ints,
      reals,
      has: (ref) => Object.hasOwn(refs, ref),
      bytes: (ref) => {
        if (!Object.hasOwn(refs, ref)) throw invalid(`${kernel}: buffer ${ref} is missing`);
        return this.at(refs[ref]);
      },
    });
  }

  async run(calls: readonly Call[], options: RunOptions = {}): Promise<RunTimes> {
    const { warmups = 3, repeats = 10, inner = 1, perCall = false } = options;
    checkCalls(calls, (buffer) => this.buffers.get(buffer)?.length);
    const columns = perCall ? repeats * calls.length : 0;
    const totalNs = new Float64Array(repeats);
    const startNs = new Float64Array(columns);
    const endNs = new Float64Array(columns);
    for (let repeat = -warmups; repeat < repeats; repeat++) {
      const start = performance.now();
      for (let i = 0; i < inner; i++) {
        calls.forEach((call, at) => {
          const before = performance.now();
          this.call(call);
          if (!perCall || repeat < 0) return;
          startNs[repeat * calls.length + at] = (before - start) * 1e6;
          endNs[repeat * calls.length + at] = (performance.now() - start) * 1e6;
        });
      }
      if (repeat >= 0) totalNs[repeat] = ((performance.now() - start) * 1e6) / inner;
    }
    return { totalNs, startNs, endNs, graph: false };
  }

  async sense(): Promise<Readonly<Record<string, number>>> {
    return {};
  }

  close(): void {
    this.buffers.clear();
  }
}

export const openReference = (): Backend => new ReferenceBackend();
