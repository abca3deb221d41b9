/** Tables stand in an image where they were laid out, each made when it is written. */
import { expect, test } from 'vitest';
import { type Backend, KernelError } from '../../kernels/backend.ts';
import { openReference } from '../../kernels/reference.ts';
import { byPosition, imageOf, Layout, Memory } from './memory.ts';

test('tables stand where they were laid out', () => {
  const layout = new Layout();
  layout.table('tables', [7, 8]);
  const far = layout.numbers(
    'tables',
    3,
    byPosition((i) => 10 * i),
  );
  const odd = layout.drawn('tables', 5, () => Uint8Array.of(1, 2, 3, 4, 5));
  const image = new Uint32Array(imageOf(layout.writes).buffer);
  expect([...image.subarray(0, 2)]).toEqual([7, 8]);
  expect([...image.subarray(far.offset / 4, far.offset / 4 + 3)]).toEqual([0, 10, 20]);
  expect([...image.subarray(odd.offset / 4)]).toEqual([0x04030201, 5]);
  expect(imageOf(layout.writes.slice(1))).toEqual(imageOf(layout.writes).slice(far.offset));
});

test('a table of nothing has a place and is not written', () => {
  const layout = new Layout();
  layout.table('hostTables', []);
  expect(layout.sizes.hostTables).toBe(4);
  expect(layout.writes).toEqual([]);
});

test('a shortage on the device is found before anything of the host is taken', async () => {
  const reference = openReference();
  const taken: string[] = [];
  const backend: Backend = Object.assign(Object.create(reference), {
    allocate: (tier: 'hbm' | 'dram', bytes: number): number => {
      taken.push(tier);
      if (taken.length === 3) throw new KernelError('out-of-device-memory', 'it is full');
      return reference.allocate(tier, bytes);
    },
    free: () => taken.pop(),
  });
  const layout = new Layout();
  for (const area of ['kv', 'host', 'outputs', 'codes'] as const) layout.place(area, 100);
  await expect(Memory.allocate(backend, layout.sizes, 1)).rejects.toThrow('it is full');
  expect(taken).toEqual(['hbm']);
});
