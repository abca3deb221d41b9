/** Kernels on a processor count numbers below 1e-38 as zero, on every thread, so that their time is not their data's. */
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import { f32View, ofF16, toBf16 } from './floats.ts';
import { FORMATS } from './formats.ts';

const N = 64;
const K = 16;
const machine = missing === null ? await openCpu({ threads: 4 }) : undefined;
afterAll(() => machine?.close());

describeNative('products whose terms are below the smallest normal number', () => {
  it.each([
    ['are zero', 1e-30, 1e-10, 0],
    ['are exact above it', 2 ** -60, 2 ** -60, K * 2 ** -120],
  ])('%s', async (_, x, weight, expected) => {
    if (machine === undefined) return;
    const [xs, weights, out] = [2 * K, 2 * N * K, 4 * N].map((bytes) => machine.allocate('hbm', bytes));
    await machine.write(xs, 0, toBf16(new Float64Array(K).fill(x)));
    await machine.write(weights, 0, toBf16(new Float64Array(N * K).fill(weight)));
    await machine.fill(out, 0, 4 * N, 'poison', 1);
    const refs = { x: xs, weights, out };
    await machine.run(
      [
        {
          kernel: 'gemm',
          stream: 'compute',
          after: [],
          refs: Object.fromEntries(
            Object.entries(refs).map(([name, buffer]) => [name, { buffer, offset: 0 }]),
          ),
          ints: { m: 1, n: N, k: K, outType: 0, units: 0 },
        },
      ],
      { warmups: 0, repeats: 1 },
    );
    expect([...f32View(await machine.read(out, 0, 4 * N))]).toEqual(new Array(N).fill(expected));
    for (const buffer of [xs, weights, out]) machine.free(buffer);
  });
});

/** All halves; in place of infinities and of what is no number zeros. */
const HALVES = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => ((bits & 0x7c00) === 0x7c00 ? 0 : bits));
const DIM = 128;
const ROWS = HALVES.length / DIM;

describeNative('halves, those below 2^-14 too', () => {
  it.each([0, 1, 2])('are widened as they are at level %i', async (level) => {
    if (missing !== null) return;
    const leveled = await openCpu({ threads: 2, level });
    // One token a row, so that its values are the output: a page is its keys, which are zero, and its values.
    const pages = new Uint16Array(2 * HALVES.length);
    for (let row = 0; row < ROWS; row++)
      pages.set(HALVES.subarray(row * DIM, (row + 1) * DIM), (2 * row + 1) * DIM);
    const placed = async (data: Uint16Array | Uint32Array | Float32Array) => {
      const buffer = leveled.allocate('hbm', data.byteLength);
      await leveled.write(buffer, 0, new Uint8Array(data.buffer));
      return { buffer, offset: 0 };
    };
    const refs = {
      q: await placed(new Uint16Array(HALVES.length)),
      pool: await placed(pages),
      table: await placed(Uint32Array.from({ length: ROWS }, (_, row) => row)),
      offsets: await placed(Uint32Array.from({ length: ROWS + 1 }, (_, row) => row)),
      tokens: await placed(new Uint32Array(ROWS).fill(1)),
      out: await placed(new Float32Array(HALVES.length)),
    };
    const shape = { rows: ROWS, group: 1, headDim: DIM, pageTokens: 1, pageStride: 4 * DIM };
    const ints = { ...shape, format: FORMATS.f16.id, qType: 0, outType: 0, parts: 0, part: 0, units: 0 };
    await leveled.run([{ kernel: 'attend', stream: 'compute', after: [], refs, ints, reals: { scale: 0 } }], {
      warmups: 0,
      repeats: 1,
    });
    const out = f32View(await leveled.read(refs.out.buffer, 0, 4 * HALVES.length));
    // Sums begin at zero, which is then not below zero.
    expect(out).toEqual(Float32Array.from(HALVES, (bits) => ofF16(bits) + 0));
    await leveled.close();
  });
});
