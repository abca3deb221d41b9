/** Every CUDA kernel of a call is launched, and begins, as cuda/launch.h wants it: one that begins without waiting races. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const folder = join(import.meta.dirname, 'cuda');
/** Not of calls: these fill buffers, hold streams, look for the host's word and sweep the cache, one behind the other. */
const OWN = ['fill.cu', 'run.cu', 'timing.cu'];
const sources = readdirSync(folder)
  .filter((name) => /\.(cu|cuh|h)$/.test(name) && !OWN.includes(name))
  .map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }));

/** The kernel's first statement; what asks for memory to be brought into the cache (`fetch_…`) may stand before. */
const FIRST = /__global__[^;{]*\{\s*(?:(?:const auto guess = )?fetch_\w+[(<][^;]*;\s*)?([^\n;]*;)/g;

it('begins by waiting for the kernel before', () => {
  const kernels = sources.flatMap(({ name, text }) =>
    [...text.matchAll(FIRST)].map(([, first]) => ({ name, first })),
  );
  expect(kernels.length).toBeGreaterThan(25);
  expect(kernels.filter(({ first }) => !/^begin_kernel\((?:\w+\.)?(?:next_ahead)?\);$/.test(first))).toEqual(
    [],
  );
});

it('tells kernels that come up early themselves whether the next does', () => {
  const holding = (pattern: RegExp): readonly string[] =>
    sources.filter(({ name, text }) => name !== 'kernel.h' && pattern.test(text)).map(({ name }) => name);
  const early = holding(/KVT_CUDA_KERNEL_AHEAD\(/);
  const told = holding(/begin_kernel\((?:\w+\.)?next_ahead\);/);
  // Attention's stands beside its stores.
  expect(told.map((name) => name.replace('attend-kernel.cuh', 'attend.cu'))).toEqual(early);
});

it('goes out by launch_kernel', () => {
  const other = sources.filter(({ name, text }) => name !== 'launch.h' && /<<<|cudaLaunchKernel/.test(text));
  expect(other.map(({ name }) => name)).toEqual([]);
});
