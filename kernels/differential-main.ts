/**
 * `npm run test:kernels -- [--backend cuda] [--cases 20] [--seed 42] [--kernels a,b]`: random cases of every kernel of a
 * backend against the reference, one line a kernel; exit 1 when one fails. A kernel that faults takes the GPU from this
 * process, so the kernels after it run in a new one.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { BACKENDS, type Backend, type BackendName, KernelError } from './backend.ts';
import { catalog } from './calls.generated.ts';
import { compareKernel } from './differential.ts';
import { load } from './load.ts';

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

const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: 'cuda' },
    cases: { type: 'string', default: '20' },
    seed: { type: 'string', default: '42' },
    kernels: { type: 'string', default: Object.keys(catalog).join(',') },
  },
});

/** The kernels again that are left, in a process that has a GPU. */
const restart = (kernels: readonly string[]): boolean => {
  const flags = Object.entries({ ...values, kernels: kernels.join(',') }).flatMap(([k, v]) => [`--${k}`, v]);
  const done = spawnSync(process.execPath, [...process.execArgv, process.argv[1], ...flags], {
    stdio: 'inherit',
  });
  return done.status === 0;
};

const isBackend = (name: string): name is BackendName => BACKENDS.some((known) => known === name);

const main = async (): Promise<boolean> => {
  if (!isBackend(values.backend))
    throw new KernelError('invalid', `backend ${values.backend}: expected one of ${BACKENDS.join(', ')}`);
  const { backend } = await load(values.backend);
  const names = values.kernels.split(',');
  let good = true;
  for (const [at, kernel] of names.entries()) {
    const { line, failed, lost } = await judge(backend, kernel, Number(values.cases), Number(values.seed));
    process.stdout.write(`${line}\n`);
    if (failed) good = false;
    if (lost) return at + 1 < names.length && restart(names.slice(at + 1)) && good;
  }
  backend.close();
  return good;
};

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  if (!(error instanceof KernelError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
