/** What a timed run moved, as a result shows it: boundaries between tiers, and what kernels read and write within one. */
import type { PolicyResult } from '../result.ts';
import type { TimedRun } from './timing-run.ts';

export const trafficOf = (run: TimedRun, steps: number): PolicyResult['traffic'] => {
  const boundary = (key: string, busyNs: number) => {
    const { bytes, prefillBytes } = run.boundaries.get(key) ?? { bytes: 0, prefillBytes: 0 };
    return {
      bytes,
      bytesPerStep: bytes / steps,
      busyRatio: Math.min(1, busyNs / run.decodeNs),
      prefillBytes,
    };
  };
  return {
    'dram->hbm': boundary('dram->hbm', run.busyNs.h2d),
    'hbm->dram': boundary('hbm->dram', run.busyNs.d2h),
    hbm: {
      readBytesPerStep: run.hbm.readBytes / steps,
      writeBytesPerStep: run.hbm.writeBytes / steps,
      weightReadBytesPerStep: run.hbm.weightReadBytes / steps,
    },
    ...(run.dramReadBytes === 0
      ? {}
      : {
          dram: {
            readBytesPerStep: run.dramReadBytes / steps,
            writeBytesPerStep: 0,
            weightReadBytesPerStep: 0,
          },
        }),
    // One drive reads and writes: both ways keep it busy.
    ...Object.fromEntries(
      ['nvme->dram', 'dram->nvme']
        .filter((key) => run.boundaries.has(key))
        .map((key) => [key, boundary(key, run.busyNs.nvme)]),
    ),
  };
};
