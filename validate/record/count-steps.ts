/**
 * Runs each step of the given workloads once, as a range for Nsight Compute (`--replay-mode app-range`); count.ts starts it
 * under that. Says on stdout, a line each, which steps were ranges: the position of its file, and its position there.
 */
import { loadAddon } from '../../kernels/addon.ts';
import { type Backend, KernelError } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';
import { load } from '../../kernels/load.ts';
import { type BoundStep, bindStep } from '../execute/bind.ts';
import { allocateFor, stepCalls, writeTables } from '../execute/execute.ts';
import { readWorkloads } from '../policies/pack.ts';

/** So many caches' bytes of other memory are written before a range: nothing of the step's own is left in the cache. */
const FLUSHED_CACHES = 5;

class Ranges {
  private readonly backend: Backend;
  private readonly other: number;
  private readonly otherBytes: number;
  private readonly addon = loadAddon();

  constructor(backend: Backend) {
    this.backend = backend;
    this.otherBytes = FLUSHED_CACHES * backend.device.l2Bytes;
    this.other = backend.allocate('hbm', this.otherBytes);
  }

  private mark(begins: boolean): void {
    if (!this.addon.profile(begins)) throw new KernelError('unsupported', 'no CUDA driver takes ranges');
  }

  /** Whether the calls run; only then are they a range. */
  private async runs(name: string, calls: readonly Call[]): Promise<boolean> {
    try {
      await this.backend.run(calls, { warmups: 0, repeats: 1 });
      return true;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      process.stderr.write(`${name}: ${error.message}\n`);
      return false;
    }
  }

  /** One run as a range, after one that is none. */
  async count(name: string, calls: readonly Call[]): Promise<boolean> {
    if (!(await this.runs(name, calls))) return false;
    for (const seed of [1, 2]) await this.backend.fill(this.other, 0, this.otherBytes, 'zero', seed);
    this.mark(true);
    const ran = await this.runs(name, calls);
    this.mark(false);
    return ran;
  }
}

const countFiles = async (backend: Backend, files: readonly string[]): Promise<void> => {
  const ranges = new Ranges(backend);
  for (const [file, path] of files.entries()) {
    const steps: readonly BoundStep[] = readWorkloads(path).map(({ workload }) => bindStep(workload));
    const memory = await allocateFor(backend, steps, 1);
    for (const [at, step] of steps.entries()) {
      await writeTables(memory, step);
      if (await ranges.count(step.workload.policy, stepCalls(memory, step)))
        process.stdout.write(`${JSON.stringify([file, at])}\n`);
    }
    memory.free();
  }
};

try {
  const { backend } = await load('cuda');
  try {
    await countFiles(backend, process.argv.slice(2));
  } finally {
    backend.close();
  }
} catch (error) {
  if (!(error instanceof KernelError)) throw error;
  process.stderr.write(`record count: ${error.message}\n`);
  process.exitCode = 1;
}
