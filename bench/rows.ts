/**
 * Rows gathered from memory by the CPU backend: random rows of 4096 bytes, as a share of what one contiguous copy of as
 * many bytes reaches right before (the ceiling; both in wall time, medians). Smaller rows are in the detail. The rows
 * must be the right ones. Without the addon there is nothing to measure, which is said and is no failure.
 */
import { type Backend, KernelError } from '../kernels/backend.ts';
import type { Call } from '../kernels/calls.ts';
import { load } from '../kernels/load.ts';
import { createRandom } from '../kernels/random.ts';
import type { Bench } from './bench.ts';

const POOL_BYTES = 256 << 20;
const MOVED_BYTES = 32 << 20;
const ROW_BYTES = [4096, 1024, 512, 256, 128];

const median = (values: Float64Array): number => values.toSorted()[values.length >> 1];

interface Place {
  readonly backend: Backend;
  readonly pool: number;
  readonly index: number;
  readonly target: number;
}

const allocate = (backend: Backend): Place => ({
  backend,
  pool: backend.allocate('dram', POOL_BYTES),
  index: backend.allocate('dram', (4 * MOVED_BYTES) / Math.min(...ROW_BYTES)),
  target: backend.allocate('dram', MOVED_BYTES),
});

/** Bytes per ns of one call that moves MOVED_BYTES. */
const rateOf = async ({ backend, pool, index, target }: Place, call: Partial<Call>): Promise<number> => {
  const at = (buffer: number) => ({ buffer, offset: 0 });
  const refs = {
    source: at(pool),
    target: at(target),
    ...(call.kernel === 'gather' ? { index: at(index) } : {}),
  };
  const whole: Call = { kernel: 'copy', stream: 'compute', after: [], refs, ints: {}, ...call };
  return MOVED_BYTES / median((await backend.run([whole], { warmups: 2, repeats: 15 })).totalNs);
};

const copyRate = (place: Place): Promise<number> => {
  const ints = {
    count: 1,
    bytes: MOVED_BYTES,
    sourceStride: MOVED_BYTES,
    targetStride: MOVED_BYTES,
    mode: 3,
  };
  return rateOf(place, { ints });
};

/** Rate of a gather of random rows, and whether the last of them is where it must be. */
const gather = async (place: Place, rowBytes: number): Promise<{ rate: number; ok: boolean }> => {
  const random = createRandom(42);
  const rows = MOVED_BYTES / rowBytes;
  const chosen = Uint32Array.from({ length: rows }, () => random.integer(0, POOL_BYTES / rowBytes - 1));
  await place.backend.write(place.index, 0, chosen);
  const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode: 0, units: 0 };
  const rate = await rateOf(place, { kernel: 'gather', ints });
  const got = await place.backend.read(place.target, MOVED_BYTES - rowBytes, rowBytes);
  const want = await place.backend.read(place.pool, chosen[rows - 1] * rowBytes, rowBytes);
  return { rate, ok: Buffer.compare(got, want) === 0 };
};

const measure = async (backend: Backend) => {
  const place = allocate(backend);
  await backend.fill(place.pool, 0, POOL_BYTES, 'bytes', 42);
  const ceiling = await copyRate(place);
  let ok = true;
  const shares: number[] = [];
  for (const rowBytes of ROW_BYTES) {
    const { rate, ok: right } = await gather(place, rowBytes);
    ok &&= right;
    shares.push(rate / ceiling);
  }
  const text = ROW_BYTES.map((rowBytes, i) => `${rowBytes} B ${shares[i].toFixed(2)}`).join(', ');
  return {
    share: shares[0],
    bytesPerS: shares[0] * ceiling * 1e9,
    ok,
    detail: `copy ${ceiling.toFixed(1)} GB/s; share at rows of ${text}`,
  };
};

export const bench: Bench = {
  name: 'rows gathered over copied',
  budget: 0.8,
  unit: 'of copy rate',
  async run(iterationsPerS) {
    let backend: Backend;
    try {
      ({ backend } = await load('cpu'));
    } catch (error) {
      const reason = error instanceof KernelError ? error.message : String(error);
      return { value: 0, ratio: 0, ok: true, detail: `not measured: ${reason}` };
    }
    const { share, bytesPerS, ok, detail } = await measure(backend);
    backend.close();
    return { value: share, ratio: bytesPerS / iterationsPerS, ok, detail };
  },
};
