/**
 * `npm run test:kernels -- [--backend cuda] [--cases 20] [--seed 42] [--kernels a,b]`: random cases of every kernel of a
 * backend against the reference, one line a kernel; exit 1 when one fails. A kernel that faults takes the GPU from this
 * process, so the kernels after it run in a new one.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { type Backend, KernelError } from './backend.ts';
import { compareKernel } from './differential.ts';
import { load } from './load.ts';
import { backendOf, integerOf, kernelsOf, runTool } from './tool-flags.ts';

interface Verdict {
  readonly line: string;
  readonly failed: boolean;
  readonly lost: boolean;
}

const judge = async (backend: Backend, kernel: string, cases: number, seed: number): Promise<Verdict> => {
  const title = kernel.padEnd(16);
  if (!backend.device.kernels.includes(kernel))
    return { line: `${title} not in this backend`, failed: false, lost: false };
  try {
    const differences = await compareKernel(backend, kernel, cases, seed);
    const failures = differences.flatMap(({ failure }) => failure ?? []);
    const worst = Math.max(0, ...differences.map(({ error }) => error));
    const verdict = failures.length === 0 ? 'ok' : `${failures.length} of ${differences.length} FAIL`;
    const lines = [`${title} ${verdict}, worst error ${worst.toExponential(1)}`, ...failures.slice(0, 5)];
    return { line: lines.join('\n  '), failed: failures.length > 0, lost: false };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return {
      line: `${title} FAIL ${error.code}: ${error.message}`,
      failed: true,
      lost: error.code === 'fault',
    };
  }
};

const readFlags = () => {
  const { values } = parseArgs({
    options: {
      backend: { type: 'string', default: 'cuda' },
      cases: { type: 'string', default: '20' },
      seed: { type: 'string', default: '42' },
      kernels: { type: 'string' },
    },
  });
  return {
    backend: backendOf(values.backend),
    cases: integerOf('cases', values.cases, 1),
    seed: integerOf('seed', values.seed, 0),
    kernels: kernelsOf(values.kernels),
  };
};

type Flags = ReturnType<typeof readFlags>;

/** The kernels again that are left, in a process that has a GPU. */
const restart = (flags: Flags, kernels: readonly string[]): boolean => {
  const words = Object.entries({ ...flags, kernels: kernels.join(',') }).flatMap(([k, v]) => [
    `--${k}`,
    `${v}`,
  ]);
  const done = spawnSync(process.execPath, [...process.execArgv, process.argv[1], ...words], {
    stdio: 'inherit',
  });
  return done.status === 0;
};

const main = async (): Promise<boolean> => {
  const flags = readFlags();
  const { kernels, cases, seed } = flags;
  const { backend } = await load(flags.backend);
  let good = true;
  for (const [at, kernel] of kernels.entries()) {
    const { line, failed, lost } = await judge(backend, kernel, cases, seed);
    process.stdout.write(`${line}\n`);
    if (failed) good = false;
    if (lost) return at + 1 < kernels.length && restart(flags, kernels.slice(at + 1)) && good;
  }
  backend.close();
  return good;
};

await runTool(main);
