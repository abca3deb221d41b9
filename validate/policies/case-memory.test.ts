/** Cases that a machine has no memory for are left out, whatever it said that it has; the others get their buffers. */
import { describe, expect, it } from 'vitest';
import { type Backend, KernelError, type KernelErrorCode } from '../../kernels/backend.ts';
import { openReference } from '../../kernels/reference.ts';
import type { BoundStep } from '../execute/bind.ts';
import { Binding } from '../execute/binding.ts';
import { allocateCases, type Candidate, limitsOf } from './case-memory.ts';

const KIB = 2 ** 10;

const candidate = (hbmBytes: number, dramBytes: number): Candidate => {
  const binding = new Binding([]);
  binding.layout.place('kv', hbmBytes);
  binding.layout.place('host', dramBytes);
  return { bound: { binding } as BoundStep, failure: null };
};

/** A GPU that gives `freeBytes` of a tier, and counts what it has given. */
const cardOf = (freeBytes: number, tier: 'hbm' | 'dram', code: KernelErrorCode) => {
  const reference = openReference();
  const given = new Map<number, number>();
  const backend: Backend = Object.assign(Object.create(reference), {
    name: 'cuda',
    allocate: (of: 'hbm' | 'dram', bytes: number): number => {
      const used = [...given.values()].reduce((sum, one) => sum + one, 0);
      if (of === tier && used + bytes > freeBytes) throw new KernelError(code, `${bytes} are not there`);
      const buffer = reference.allocate(of, bytes);
      if (of === tier) given.set(buffer, bytes);
      return buffer;
    },
    free: (buffer: number): void => {
      given.delete(buffer);
      reference.free(buffer);
    },
    fill: reference.fill.bind(reference),
  });
  return { backend, given };
};

const unlimited = { hbmBytes: 2 ** 40, dramBytes: 2 ** 40 };

describe('memory of cases', () => {
  it('is at most what is asked for and what the machine has', () => {
    const { backend } = cardOf(0, 'hbm', 'out-of-device-memory');
    const device = { ...backend.device, hbmBytes: 100, dramBytes: 1000 };
    const card = Object.assign(Object.create(backend), { device }) as Backend;
    expect(limitsOf(card, 2 ** 30)).toEqual({ hbmBytes: 90, dramBytes: 800 });
    expect(limitsOf(card, 50)).toEqual({ hbmBytes: 50, dramBytes: 50 });
    // Nothing is known of the reference's memory.
    expect(limitsOf(openReference(), 50)).toEqual({ hbmBytes: 50, dramBytes: 50 });
  });

  it.each([
    ['hbm', 'out-of-device-memory'],
    ['dram', 'out-of-host-memory'],
  ] as const)(
    'leaves out the largest cases where %s is short, and nothing stays allocated',
    async (tier, code) => {
      const sizes = [1, 4, 16, 64].map((size) => size * KIB);
      const cases = sizes.map((size) => candidate(tier === 'hbm' ? size : 1, tier === 'dram' ? size : 1));
      const { backend, given } = cardOf(20 * KIB, tier, code);
      const memory = await allocateCases(backend, cases, unlimited, 1);
      expect(cases.map(({ failure }) => failure === null)).toEqual([true, true, true, false]);
      expect(cases[3].failure).toMatch(new RegExp(`^needs 0\\.1 MiB of ${tier}, .* may be used$`));
      memory?.free();
      expect(given.size).toBe(0);
    },
  );

  it('is none where no case fits', async () => {
    const cases = [candidate(KIB, 1)];
    const { backend } = cardOf(0, 'hbm', 'out-of-device-memory');
    expect(await allocateCases(backend, cases, unlimited, 1)).toBeNull();
  });

  it('does not hide other faults', async () => {
    const { backend } = cardOf(0, 'hbm', 'fault');
    await expect(allocateCases(backend, [candidate(KIB, 1)], unlimited, 1)).rejects.toThrow('are not there');
  });
});
