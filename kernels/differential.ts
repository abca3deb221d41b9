/**
 * Differential test of a backend: random cases of each kernel run there and on the reference, outputs poisoned before,
 * and compared. The same harness serves the CPU backend in the tests and a GPU wherever there is one.
 */
import type { Backend } from './backend.ts';
import { type Call, type KernelCase, type KernelSpec, type OutputCheck, type Ref, STREAMS } from './calls.ts';
import { specOf } from './check-call.ts';
import { f32View, ofBf16, ofF16, u16View, u32View } from './floats.ts';
import { createRandom, oddOnly } from './random.ts';
import { openReference } from './reference.ts';

export interface Difference {
  readonly kernel: string;
  readonly label: string;
  readonly output: string;
  /** Relative L2 error, or share of differing elements; NaN where something was not written. */
  readonly error: number;
  readonly tolerance: number;
  /** One line when the case failed, else null. */
  readonly failure: string | null;
}

const numbersOf = (bytes: Uint8Array, type: OutputCheck['type']): ArrayLike<number> => {
  switch (type) {
    case 'f32':
      return f32View(bytes);
    case 'bf16':
      return Float64Array.from(u16View(bytes), ofBf16);
    case 'f16':
      return Float64Array.from(u16View(bytes), ofF16);
    case 'u32':
      return u32View(bytes);
    case 'i8':
      return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    default:
      return bytes;
  }
};

const isFloat = (type: OutputCheck['type']): boolean => type === 'f32' || type === 'f16' || type === 'bf16';

/** ‖got − want‖ / ‖want‖, or for integers the share that differs. Elements that the reference left NaN must be NaN. */
export const errorOf = (got: Uint8Array, want: Uint8Array, type: OutputCheck['type']): number => {
  const a = numbersOf(got, type);
  const b = numbersOf(want, type);
  let off = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    if (!isFloat(type)) off += a[i] === b[i] ? 0 : 1;
    else if (Number.isNaN(a[i]) !== Number.isNaN(b[i])) return Number.NaN;
    else if (a[i] !== b[i] && !Number.isNaN(b[i])) off += (a[i] - b[i]) ** 2;
    if (isFloat(type) && Number.isFinite(b[i])) size += b[i] ** 2;
  }
  if (!isFloat(type)) return off / Math.max(1, b.length);
  return off === 0 ? 0 : Math.sqrt(off / Math.max(size, Number.MIN_VALUE));
};

const place = async (backend: Backend, { buffers }: KernelCase): Promise<Record<string, Ref>> => {
  const refs: Record<string, Ref> = {};
  for (const [name, { tier, data }] of Object.entries(buffers)) {
    const bytes = typeof data === 'number' ? data : data.length;
    const buffer = backend.allocate(tier, Math.max(1, bytes));
    refs[name] = { buffer, offset: 0 };
    if (typeof data === 'number') await backend.fill(buffer, 0, bytes, 'poison', 1);
    else await backend.write(buffer, 0, data);
  }
  return refs;
};

const runCase = async (backend: Backend, spec: KernelSpec, one: KernelCase): Promise<Uint8Array[]> => {
  const refs = await place(backend, one);
  const { ints, reals = {} } = one;
  const call: Call = { kernel: spec.name, stream: STREAMS[0], after: [], refs, ints, reals };
  await backend.run([call], { warmups: 0, repeats: 1 });
  const outputs: Uint8Array[] = [];
  for (const { ref, bytes } of one.outputs)
    outputs.push(await backend.read(refs[ref].buffer, refs[ref].offset, bytes));
  for (const { buffer } of Object.values(refs)) backend.free(buffer);
  return outputs;
};

const judge = (spec: KernelSpec, one: KernelCase, check: OutputCheck, got: Uint8Array, want: Uint8Array) => {
  const { ref, type, tolerance, compare } = check;
  const common = { kernel: spec.name, label: one.label, output: ref, tolerance };
  if (compare !== undefined) {
    const failure = compare(got, want);
    return { ...common, error: failure === null ? 0 : 1, failure };
  }
  const error = errorOf(got, want, type);
  const failure =
    error <= tolerance ? null : `${one.label}: ${ref} is off by ${error}, more than ${tolerance}`;
  return { ...common, error, failure };
};

/**
 * Runs `cases` random cases of a kernel on a backend and on the reference, each third of odd sizes. Throws
 * KernelError when a run fails.
 */
export const compareKernel = async (
  backend: Backend,
  kernel: string,
  cases: number,
  seed: number,
): Promise<readonly Difference[]> => {
  const spec = specOf(kernel);
  const random = createRandom(seed);
  const odd = oddOnly(random);
  const reference = openReference();
  const differences: Difference[] = [];
  for (let i = 0; i < cases; i++) {
    const one = spec.randomCase(i % 3 === 1 ? odd : random);
    const want = await runCase(reference, spec, one);
    const got = await runCase(backend, spec, one);
    one.outputs.forEach((check, at) => {
      differences.push(judge(spec, one, check, got[at], want[at]));
    });
  }
  reference.close();
  return differences;
};
