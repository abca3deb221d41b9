/** The stand-in of declared work that has no kernel of its own: bytes read and written, and arithmetic. */
import type { Operation } from '../../sim/program/operation.ts';
import { type Bounds, type Microbench, powers, type Site } from './microbench.ts';
import { kernelSite, scoreOf } from './score-sites.ts';

interface WorkCase {
  readonly readBytes: number;
  readonly writeShare: number;
  readonly flopsPerByte: number;
  readonly matrixFlopsPerByte: number;
  readonly launches: number;
}

const siteOf = (bounds: Bounds, one: WorkCase): Site => {
  const { readBytes, launches } = one;
  const writeBytes = readBytes * one.writeShare;
  const flops = readBytes * one.flopsPerByte;
  const matrixFlops = readBytes * one.matrixFlopsPerByte;
  const operation: Operation = {
    ...scoreOf('work', readBytes, writeBytes, flops),
    kernels: launches,
    ...(matrixFlops > 0 ? { matrixFlops } : {}),
  } as Operation;
  const products = matrixFlops > 0 ? ` products ${matrixFlops}` : '';
  const id = `read ${readBytes} write ${writeBytes} flops ${flops}${products}${launches > 1 ? ` in ${launches}` : ''}`;
  return kernelSite(bounds, id, operation, readBytes + writeBytes, (layout) => ({
    kernel: 'work',
    refs: {
      read: layout.place('kv', readBytes),
      write: layout.place('outputs', Math.max(4, writeBytes)),
    },
    ints: { readBytes, writeBytes, flops, matrixFlops, launches },
  }));
};

/** Arithmetic on fewer bytes takes less than a start: without it they are predicted within 4 %. */
const LEAST_COMPUTED = 65_536;

const plain = { writeShare: 0, flopsPerByte: 0, matrixFlopsPerByte: 0, launches: 1 };

export const microbench = {
  name: 'kernel/score',
  number: 10,
  title: 'declared work without a kernel of its own',
  kernels: ['work'],
  sites: (bounds) => {
    const most = Math.min(2 ** 28, bounds.hbmBytes / 4);
    const sizes = powers(4096, most, 4);
    const cases: readonly WorkCase[] = [
      ...sizes.flatMap((readBytes) =>
        [0, 0.25, 1].flatMap((writeShare) =>
          (readBytes < LEAST_COMPUTED ? [0] : [0, 8, 64]).map((flopsPerByte) => ({
            ...plain,
            readBytes,
            writeShare,
            flopsPerByte,
          })),
        ),
      ),
      ...powers(65_536, most, 4).flatMap((readBytes) =>
        [4, 32, 128, 512].map((matrixFlopsPerByte) => ({ ...plain, readBytes, matrixFlopsPerByte })),
      ),
      ...powers(65_536, most, 4).map((readBytes) => ({ ...plain, readBytes, writeShare: 0.25, launches: 4 })),
    ];
    return cases.map((one) => siteOf(bounds, one));
  },
} satisfies Microbench;
