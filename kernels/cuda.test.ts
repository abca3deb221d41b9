/**
 * The CUDA machine, where there is a GPU and its library is built (`npm run kernels`); elsewhere these tests are skipped
 * and say what is missing. Kernels against the reference, lists over all streams and tiers, and what it refuses. A fault
 * would take the GPU from this process, so faults are not caused here.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { type Backend, KernelError } from './backend.ts';
import { catalog } from './calls.generated.ts';
import type { Call, Stream, Tier } from './calls.ts';
import { compareKernel } from './differential.ts';
import { load } from './load.ts';

const opened = await load('cuda').then(
  ({ backend }) => ({ backend, reason: '' }),
  (error: unknown) => {
    if (!(error instanceof KernelError) || error.code === 'fault') throw error;
    return { backend: null, reason: error.message };
  },
);
afterAll(() => opened.backend?.close());

const gpu = (): Backend => {
  if (opened.backend === null) throw new Error(opened.reason);
  return opened.backend;
};
const title = (name: string): string => (opened.reason === '' ? name : `${name} (${opened.reason})`);
const onGpu = (name: string, body: () => void): void => {
  describe.skipIf(opened.backend === null)(title(name), body);
};

const SIZE = 3 * 4096 + 123;
const data = Uint8Array.from({ length: SIZE }, (_, i) => (i * 7) % 251);

const copy = (
  source: number,
  target: number,
  stream: Stream,
  after: readonly number[] = [],
  mode = 0,
): Call => ({
  kernel: 'copy',
  stream,
  after,
  refs: { source: { buffer: source, offset: 0 }, target: { buffer: target, offset: 0 } },
  ints: { count: 1, bytes: SIZE, sourceStride: SIZE, targetStride: SIZE, mode },
});

const withBuffers = async (
  tiers: readonly Tier[],
  body: (...buffers: number[]) => Promise<void>,
): Promise<void> => {
  const buffers = tiers.map((tier) => gpu().allocate(tier, SIZE));
  await body(...buffers);
  for (const buffer of buffers) gpu().free(buffer);
};

onGpu('kernels of the CUDA backend', () => {
  const names = Object.keys(catalog).filter((name) => opened.backend?.device.kernels.includes(name));
  it.each(names)('agree with the reference: %s', async (name) => {
    for (const { failure } of await compareKernel(gpu(), name, 6, 42)) expect(failure).toBeNull();
  });
});

onGpu('lists of calls on CUDA', () => {
  it.each([{ graph: false }, { graph: true }])(
    'hand bytes on through every stream and tier, %o',
    async ({ graph }) =>
      withBuffers(['dram', 'hbm', 'hbm', 'dram', 'dram', 'nvme', 'hbm'], async (...b) => {
        await gpu().write(b[0], 0, data);
        for (const each of b.slice(1)) await gpu().fill(each, 0, SIZE, 'poison', 1);
        // Every hop reads what the one before wrote on another stream.
        const streams: readonly Stream[] = ['h2d', 'compute', 'd2h', 'cpu', 'nvme'];
        const calls = streams.map((stream, i) =>
          copy(b[i], b[i + 1], stream, i === 0 ? [] : [i - 1], stream === 'compute' ? 3 : 0),
        );
        calls.push(copy(b[5], b[4], 'nvme', [4]), copy(b[4], b[6], 'h2d', [5]));
        const times = await gpu().run(calls, { warmups: 1, repeats: 5, graph, perCall: true });
        expect(Buffer.compare(await gpu().read(b[6], 0, SIZE), data)).toBe(0);
        expect(times.graph).toBe(graph);
        const at = 4 * calls.length;
        // Host threads read another clock, which starts a few microseconds after the GPU's.
        for (let i = 1; i < calls.length; i++)
          expect(times.startNs[at + i]).toBeGreaterThan(times.endNs[at + i - 1] - 20_000);
      }),
  );

  it('time a list as long as its longest stream', async () => {
    const spin = (stream: Stream): Call => ({
      kernel: 'spin',
      stream,
      after: [],
      refs: {},
      ints: { ns: 2e6 },
    });
    const { totalNs } = await gpu().run([spin('compute'), spin('h2d'), spin('cpu')], { repeats: 3 });
    for (const ns of totalNs) expect(ns).toBeGreaterThan(2e6);
    expect(Math.min(...totalNs)).toBeLessThan(3.5e6);
  });

  it('fill every tier with the same bytes', async () =>
    withBuffers(['hbm', 'dram', 'pageable', 'nvme'], async (...buffers) => {
      for (const buffer of buffers) await gpu().fill(buffer, 0, SIZE, 'bytes', 9);
      const [first, ...others] = await Promise.all(buffers.map((buffer) => gpu().read(buffer, 0, SIZE)));
      for (const other of others) expect(Buffer.compare(other, first)).toBe(0);
      expect(new Set(first).size).toBe(256);
    }));
});

onGpu('the CUDA machine refuses', () => {
  const refused = async (calls: readonly Call[], code: string, text: string): Promise<void> =>
    expect(gpu().run(calls)).rejects.toMatchObject({ code, message: expect.stringContaining(text) });

  it('memory that a call cannot reach', async () =>
    withBuffers(['hbm', 'pageable', 'nvme'], async (hbm, pageable, file) => {
      await refused([copy(hbm, hbm, 'cpu')], 'invalid', 'in hbm');
      await refused([copy(pageable, hbm, 'h2d', [], 3)], 'invalid', 'not pageable memory');
      await refused([copy(file, hbm, 'h2d')], 'unsupported', 'nvme');
    }));

  it('rows outside the pool, where the host moves them', async () =>
    withBuffers(['dram', 'hbm', 'dram'], async (pool, target, index) => {
      await gpu().write(index, 0, Uint32Array.of(0, 1_000_000));
      const ints = { rows: 2, rowBytes: 64, sourceStride: 64, targetStride: 64, mode: 1, units: 0 };
      const refs = { source: pool, target, index };
      const call: Call = {
        kernel: 'gather',
        stream: 'h2d',
        after: [],
        refs: Object.fromEntries(Object.entries(refs).map(([name, buffer]) => [name, { buffer, offset: 0 }])),
        ints,
      };
      await refused([call], 'invalid', 'gather: row 1000000 of the source ends past its buffer');
    }));

  it('rows outside the pool that are chosen after their packing was enqueued', async () =>
    withBuffers(['dram', 'hbm', 'dram', 'dram', 'dram'], async (pool, target, index, staging, choice) => {
      await gpu().write(index, 0, Uint32Array.of(0, 1));
      await gpu().write(choice, 0, Uint32Array.of(0, 1_000_000));
      const refs = { source: pool, target, index, staging };
      const calls: readonly Call[] = [
        copy(choice, index, 'd2h'),
        {
          kernel: 'gather',
          stream: 'h2d',
          after: [0],
          refs: Object.fromEntries(
            Object.entries(refs).map(([name, buffer]) => [name, { buffer, offset: 0 }]),
          ),
          ints: { rows: 2, rowBytes: 64, sourceStride: 64, targetStride: 64, mode: 3, units: 0 },
        },
      ];
      await refused(calls, 'invalid', 'gather: row 1000000 of the source ends past its buffer');
      await gpu().write(choice, 0, Uint32Array.of(0, 1));
      await gpu().run(calls, { graph: true, repeats: 2 });
    }));

  it('more memory than there is', () => {
    const tooMuch =
      (tier: Tier): (() => number) =>
      () =>
        gpu().allocate(tier, 2 ** 45);
    expect(tooMuch('hbm')).toThrow(/allocate: \d+ bytes of device memory, \d+ of \d+ are free/);
    expect(tooMuch('dram')).toThrow(/allocate: \d+ bytes of pinned memory, the host has \d+/);
  });
});
