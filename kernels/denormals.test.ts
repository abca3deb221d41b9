/** Kernels on a processor count numbers below 1e-38 as zero, on every thread, so that their time is not their data's. */
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import { f32View, toBf16 } from './floats.ts';

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
