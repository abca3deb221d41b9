/** Threads of the host that gather rows and compute, as a profile and a stack state them, in plain numbers. */
import type { Profile } from '../hardware/schema.ts';
import type { Stack } from '../hardware/stack-schema.ts';
import { FLOPS_PER_TFLOP_NS } from './compute-rates.ts';

export interface HostThreads {
  readonly threads: number;
  readonly rowNs: number;
  readonly startNs: number;
  readonly threadBytesPerNs: number;
  readonly copyBytesPerNs: number;
  readonly readBytesPerNs: number;
  /** The first and the last piece in which gathered rows are sent: so many bytes at least, and one in `most` of all. */
  readonly gatherPieces: { readonly most: number; readonly bytes: number };
  readonly flopsPerNs: number;
  /** P95 of the error of gathered rows; null where it was not measured. */
  readonly errorRatio: number | null;
}

const piecesOf = ({ gathersFirst, gatherPieces }: Stack): HostThreads['gatherPieces'] => {
  if (gathersFirst) return { most: 1, bytes: 0 };
  return { most: gatherPieces?.most.value ?? Infinity, bytes: gatherPieces?.bytes.value ?? 0 };
};

export const hostThreads = ({ cpu, dram }: Profile['host'], stack: Stack): HostThreads => ({
  threads: cpu.threads.value,
  rowNs: cpu.rowNs.value,
  startNs: cpu.startNs?.value ?? 0,
  threadBytesPerNs: cpu.threadBytesPerNs.value,
  copyBytesPerNs: Math.min(cpu.copyBytesPerNs.value, dram.mixedBytesPerNs.value / 2),
  readBytesPerNs: cpu.readBytesPerNs?.value ?? dram.readBytesPerNs.value,
  gatherPieces: piecesOf(stack),
  flopsPerNs: cpu.tflops.value * FLOPS_PER_TFLOP_NS,
  errorRatio: cpu.errorRatio?.value ?? null,
});
