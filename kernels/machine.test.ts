/**
 * The machine under the CPU kernels: bytes arrive in every tier at any offset, rows move between any two of them, fills
 * depend on the seed alone, calls of a stream run in order and wait for what they are after, streams overlap.
 */
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import type { Backend, Fill } from './backend.ts';
import type { Call, Stream, Tier } from './calls.ts';
import { ROW_MODES, TIERS } from './calls.ts';
import { ofBf16, ofF16 } from './floats.ts';

const opened: Backend[] = [];
const open = async (options = {}): Promise<Backend> => {
  const backend = await openCpu(options);
  opened.push(backend);
  return backend;
};
afterAll(() => {
  for (const backend of opened) backend.close();
});
const machine = missing === null ? await open() : undefined;

const seeded = { seed: 42, numRuns: 40 };
const call = (
  kernel: string,
  buffers: Readonly<Record<string, number>>,
  ints: Call['ints'],
  stream: Stream = 'compute',
  after: readonly number[] = [],
): Call => ({
  kernel,
  stream,
  after,
  ints,
  refs: Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, { buffer, offset: 0 }])),
});

const SIZE = 3 * 4096 + 123;
const tier = fc.constantFrom<Tier>(...TIERS);

const withBuffers = async (
  tiers: readonly Tier[],
  body: (backend: Backend, buffers: readonly number[]) => Promise<void>,
): Promise<void> => {
  if (machine === undefined) throw new Error('no machine');
  const buffers = tiers.map((each) => machine.allocate(each, SIZE));
  await body(machine, buffers);
  for (const buffer of buffers) machine.free(buffer);
};

const pattern = (seed: number): Uint8Array => Uint8Array.from({ length: SIZE }, (_, i) => (i * seed) % 251);

describeNative('memory of the CPU machine', () => {
  it('keeps what was written, at any offset, in every tier', async () => {
    const write = fc.tuple(fc.nat(SIZE), fc.uint8Array({ maxLength: 9000 }));
    await fc.assert(
      fc.asyncProperty(tier, fc.array(write, { maxLength: 6 }), async (where, writes) =>
        withBuffers([where], async (backend, [buffer]) => {
          const model = pattern(7);
          await backend.write(buffer, 0, model);
          for (const [offset, data] of writes) {
            const part = data.subarray(0, SIZE - offset);
            model.set(part, offset);
            await backend.write(buffer, offset, part);
          }
          expect(Buffer.compare(await backend.read(buffer, 0, SIZE), model)).toBe(0);
          const [from] = writes[0] ?? [11];
          const tail = await backend.read(buffer, from, SIZE - from);
          expect(Buffer.compare(tail, model.subarray(from))).toBe(0);
        }),
      ),
      seeded,
    );
  });

  it('moves rows between any two tiers, as copy, gather and scatter say', async () => {
    const shape = fc.record({
      tiers: fc.tuple(tier, tier),
      rowBytes: fc.integer({ min: 1, max: 1100 }),
      gap: fc.nat(50),
      index: fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 9 }),
      kernel: fc.constantFrom('copy', 'gather', 'scatter'),
    });
    type Shape = typeof shape extends fc.Arbitrary<infer T> ? T : never;
    const run = async ({ tiers, rowBytes, gap, index, kernel }: Shape): Promise<void> =>
      withBuffers([...tiers, 'dram'], async (backend, [source, target, indexBuffer]) => {
        const [from, to] = [pattern(7), pattern(11)];
        const stride = rowBytes + gap;
        const rows = Math.min(index.length, Math.floor(SIZE / stride));
        await backend.write(source, 0, from);
        await backend.write(target, 0, to);
        await backend.write(indexBuffer, 0, Uint32Array.from(index));
        const strides = { sourceStride: stride, targetStride: stride, mode: 0 };
        await backend.run(
          [
            kernel === 'copy'
              ? call(kernel, { source, target }, { count: rows, bytes: rowBytes, ...strides })
              : call(
                  kernel,
                  { source, target, index: indexBuffer },
                  { rows, rowBytes, ...strides, units: 0 },
                ),
          ],
          { warmups: 0, repeats: 1 },
        );
        for (let i = 0; i < rows; i++) {
          const at = (kernel === 'gather' ? index[i] : i) * stride;
          to.set(from.subarray(at, at + rowBytes), (kernel === 'scatter' ? index[i] : i) * stride);
        }
        expect(Buffer.compare(await backend.read(target, 0, SIZE), to)).toBe(0);
      });
    await fc.assert(fc.asyncProperty(shape, run), { ...seeded, numRuns: 150 });
  });

  it.each([
    [9000, 100],
    [700, 1000],
    [5, 200_003],
  ])('packs %i rows of %i bytes by threads that share them', async (rows, rowBytes) => {
    const backend = await open({ threads: 3 });
    const count = 2 * rows;
    const from = Uint8Array.from({ length: count * rowBytes }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
    const index = Uint32Array.from({ length: rows }, (_, i) => Math.imul(i, 7919) % count);
    const sizes = { source: from.length, index: 4 * rows, target: rows * rowBytes, staging: rows * rowBytes };
    const buffers = Object.fromEntries(
      Object.entries(sizes).map(([name, bytes]) => [name, backend.allocate('dram', bytes)]),
    );
    await backend.write(buffers.source, 0, from);
    await backend.write(buffers.index, 0, index);
    const mode = ROW_MODES.indexOf('staged');
    const ints = { rows, rowBytes, sourceStride: rowBytes, targetStride: rowBytes, mode, units: 0 };
    await backend.run([call('gather', buffers, ints, 'h2d')], { warmups: 0, repeats: 1 });
    const wanted = new Uint8Array(rows * rowBytes);
    for (const [i, row] of index.entries())
      wanted.set(from.subarray(row * rowBytes, (row + 1) * rowBytes), i * rowBytes);
    expect(Buffer.compare(await backend.read(buffers.target, 0, wanted.length), wanted)).toBe(0);
  });
});

const moments = (values: readonly number[]): readonly number[] => {
  const mean = (power: number): number => values.reduce((sum, x) => sum + x ** power, 0) / values.length;
  return [1, 2, 3, 4].map(mean);
};

describeNative('fills', () => {
  const bytes = 1 << 18;
  const filled = async (backend: Backend, where: Tier, fill: Fill, seed: number): Promise<Uint8Array> => {
    const buffer = backend.allocate(where, bytes);
    await backend.fill(buffer, 0, bytes, fill, seed);
    const data = await backend.read(buffer, 0, bytes);
    backend.free(buffer);
    return data;
  };
  const numbers: Readonly<Record<string, (data: Uint8Array) => readonly number[]>> = {
    'normal-f32': (data) => [...new Float32Array(data.buffer)],
    'normal-bf16': (data) => [...new Uint16Array(data.buffer)].map(ofBf16),
    'normal-f16': (data) => [...new Uint16Array(data.buffer)].map(ofF16),
  };

  it.each(Object.keys(numbers) as Fill[])('%s has the moments of a normal', async (fill) => {
    const [mean, square, cube, fourth] = moments(numbers[fill](await filled(await open(), 'hbm', fill, 5)));
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(square - 1)).toBeLessThan(0.03);
    expect(Math.abs(cube)).toBeLessThan(0.1);
    expect(Math.abs(fourth - 3)).toBeLessThan(0.2);
  });

  it('depend on the seed, not on threads or tier', async () => {
    const one = await open({ threads: 1 });
    const three = await open({ threads: 3 });
    const same = await filled(one, 'dram', 'bytes', 9);
    expect(Buffer.compare(await filled(three, 'nvme', 'bytes', 9), same)).toBe(0);
    expect(Buffer.compare(await filled(three, 'dram', 'bytes', 10), same)).not.toBe(0);
    expect(new Set(same).size).toBe(256);
  });

  it('poison is NaN', async () => {
    const poison = await filled(await open(), 'hbm', 'poison', 0);
    for (const values of Object.values(numbers)) expect(values(poison).every(Number.isNaN)).toBe(true);
  });
});

const spin = (ns: number, stream: Stream, after: readonly number[] = []): Call =>
  call('spin', {}, { ns }, stream, after);

describeNative('streams', () => {
  it('hand bytes on in the order that calls ask for', async () => {
    await withBuffers(['dram', 'dram', 'nvme'], async (backend, [a, b, file]) => {
      const data = pattern(13);
      const ints = { count: 1, bytes: SIZE, sourceStride: SIZE, targetStride: SIZE, mode: 0 };
      await backend.write(a, 0, data);
      // a -> file -> b -> a, each after the one before on another stream; then a is poisoned by the last in line.
      const calls = [
        call('copy', { source: a, target: file }, ints, 'nvme'),
        call('copy', { source: file, target: b }, ints, 'h2d', [0]),
        call('copy', { source: b, target: a }, ints, 'd2h', [1]),
        call('copy', { source: a, target: b }, ints, 'compute', [0, 2]),
      ];
      await backend.run(calls, { warmups: 1, repeats: 20, inner: 2 });
      expect(Buffer.compare(await backend.read(b, 0, SIZE), data)).toBe(0);
    });
  });

  it('time calls: in order within a stream, after what they wait for, overlapping across streams', async () => {
    const backend = await open();
    const ns = 60e6;
    const calls = [spin(ns, 'compute'), spin(ns, 'h2d'), spin(1000, 'h2d', [0]), spin(1000, 'compute', [2])];
    const { totalNs, startNs, endNs } = await backend.run(calls, { warmups: 0, repeats: 2, perCall: true });
    expect(Math.min(...totalNs)).toBeGreaterThan(ns);
    for (let row = 0; row < startNs.length; row += calls.length) {
      expect(endNs[row] - startNs[row]).toBeGreaterThanOrEqual(ns);
      expect(startNs[row + 1]).toBeLessThan(endNs[row]);
      expect(startNs[row + 2]).toBeGreaterThanOrEqual(Math.max(endNs[row], endNs[row + 1]));
      expect(startNs[row + 3]).toBeGreaterThanOrEqual(endNs[row + 2]);
    }
  });

  it('leave the event loop alone', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await (await open()).run([spin(150e6, 'compute')], { warmups: 0, repeats: 1 });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(2);
  });

  it('share one region of `inner` runs', async () => {
    const { totalNs } = await (await open()).run([spin(1e6, 'cpu')], { warmups: 0, repeats: 3, inner: 4 });
    expect(totalNs).toHaveLength(3);
    expect(Math.min(...totalNs)).toBeGreaterThanOrEqual(1e6);
  });
});
