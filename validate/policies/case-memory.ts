/**
 * Memory for a run of cases: what of a machine they may take, which of them fit, and buffers as large as the largest that
 * does. Where the machine gives less than it has, the largest cases are left out and the others go on.
 */
import { type Backend, KernelError } from '../../kernels/backend.ts';
import type { BoundStep } from '../execute/bind.ts';
import { allocateFor } from '../execute/execute.ts';
import type { Memory } from '../execute/memory.ts';

/** Bytes of each tier that buffers may take. */
export interface MemoryLimits {
  readonly hbmBytes: number;
  readonly dramBytes: number;
}

/** Shares of a machine's memory: a GPU's is its own; a host needs some, and two tiers of one processor share it. */
const GPU_SHARES = { hbm: 0.9, dram: 0.8 };
const HOST_SHARES = { hbm: 0.4, dram: 0.4 };
/** What is tried next after the machine refused so much. */
const STEP_DOWN = 0.75;

/** At most `mostBytes` of each tier, and no more than the machine has to give. */
export const limitsOf = ({ name, device }: Backend, mostBytes: number): MemoryLimits => {
  const shares = name === 'cuda' ? GPU_SHARES : HOST_SHARES;
  const of = (bytes: number, share: number): number =>
    bytes > 0 ? Math.min(mostBytes, Math.floor(share * bytes)) : mostBytes;
  return { hbmBytes: of(device.hbmBytes, shares.hbm), dramBytes: of(device.dramBytes, shares.dram) };
};

const needs = ({ binding: { layout } }: BoundStep) => ({
  hbm: layout.bytesIn('hbm'),
  dram: layout.bytesIn('dram') + layout.bytesIn('pageable'),
});

const sizeText = (bytes: number): string =>
  bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** Why a step does not fit, or null. */
const tooLarge = (bound: BoundStep, { hbmBytes, dramBytes }: MemoryLimits): string | null => {
  const { hbm, dram } = needs(bound);
  if (hbm > hbmBytes) return `needs ${sizeText(hbm)} of hbm, ${sizeText(hbmBytes)} may be used`;
  if (dram > dramBytes) return `needs ${sizeText(dram)} of dram, ${sizeText(dramBytes)} may be used`;
  return null;
};

/** Kernels of a step that the backend lacks, or null. */
const missingKernels = ({ device, name }: Backend, { binding }: BoundStep): string | null => {
  const missing = [...new Set(binding.calls.map(({ kernel }) => kernel))].filter(
    (kernel) => !device.kernels.includes(kernel),
  );
  return missing.length > 0 ? `the ${name} backend has no kernel ${missing.join(', ')}` : null;
};

/** A step that may run, and (once set) why it can't. */
export interface Candidate {
  readonly bound: BoundStep;
  failure: string | null;
}

/** Less of the tier that the machine did not give; a processor's tiers are one memory, of which the larger part goes. */
const lowered = (
  { name }: Backend,
  code: KernelError['code'],
  able: readonly Candidate[],
  limits: MemoryLimits,
): MemoryLimits => {
  const hbm = Math.max(...able.map(({ bound }) => needs(bound).hbm));
  const dram = Math.max(...able.map(({ bound }) => needs(bound).dram));
  const isDevice = name === 'cuda' ? code === 'out-of-device-memory' : hbm >= dram;
  return isDevice ? { ...limits, hbmBytes: STEP_DOWN * hbm } : { ...limits, dramBytes: STEP_DOWN * dram };
};

const isShortage = (error: unknown): error is KernelError =>
  error instanceof KernelError && ['out-of-device-memory', 'out-of-host-memory'].includes(error.code);

/** Buffers for all candidates that can run, null where none can; the others are told why. Throws KernelError otherwise. */
export const allocateCases = async (
  backend: Backend,
  candidates: readonly Candidate[],
  given: MemoryLimits,
  seed: number,
): Promise<Memory | null> => {
  let limits = given;
  for (;;) {
    for (const one of candidates)
      one.failure ??= missingKernels(backend, one.bound) ?? tooLarge(one.bound, limits);
    const able = candidates.filter(({ failure }) => failure === null);
    if (able.length === 0) return null;
    try {
      return await allocateFor(
        backend,
        able.map(({ bound }) => bound),
        seed,
      );
    } catch (error) {
      if (!isShortage(error)) throw error;
      limits = lowered(backend, error.code, able, limits);
    }
  }
};
