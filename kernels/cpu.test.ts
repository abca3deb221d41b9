/**
 * The CPU backend against the reference: every kernel that it has, at every instruction set level that this processor
 * has; the machine under it (tiers, streams, times, fills); and faults, caused. The addon is built first where it is
 * stale; without a C++ compiler nothing of this can run, and the suite says so.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Backend } from './backend.ts';
import { catalog } from './calls.generated.ts';
import { compareKernel } from './differential.ts';
import { load } from './load.ts';

const script = join(import.meta.dirname, '..', 'scripts', 'build-kernels.js');
const built = spawnSync(process.execPath, [script], { encoding: 'utf8' });
const missing = /no C\+\+ compiler|no Node headers/.exec(built.stderr)?.[0];
if (missing === undefined && built.status !== 0) throw new Error(built.stderr);
const suite = describe.skipIf(missing !== undefined);
const why = missing === undefined ? '' : ` (${missing})`;

const open = async (options = {}): Promise<Backend> => (await load('cpu', options)).backend;
const backends: Backend[] = missing === undefined ? await Promise.all([open(), open({ level: 0 })]) : [];
afterAll(() => {
  for (const backend of backends) backend.close();
});

suite(`kernels of the CPU backend${why}`, () => {
  const kernels = Object.keys(catalog).filter((name) => backends[0]?.device.kernels.includes(name));
  it.each(kernels)('agree with the reference: %s', async (kernel) => {
    for (const backend of backends)
      for (const { failure } of await compareKernel(backend, kernel, 12, 42)) expect(failure).toBeNull();
  });
});
