/**
 * One restart of a calibration in a process of its own: a fault of the device ends this process, not its parent.
 * Started by `calibrate.ts` with the request as its argument; answers over the channel to its parent.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BackendName, KernelError } from '../../kernels/backend.ts';
import { load } from '../../kernels/load.ts';
import { memoryGroups } from './memory-groups.ts';
import { runProcessorRestart } from './processor-restart.ts';
import { boundsOf, runRestart, sitesOf } from './run.ts';
import type { RestartTimes } from './visits.ts';

export interface RestartRequest {
  readonly backend: BackendName;
  readonly seed: number;
  readonly only?: readonly string[];
  /** Time that it should take, ms. */
  readonly limitMs?: number;
  readonly most: { readonly hbmBytes: number; readonly dramBytes: number };
}

type Answer =
  | { readonly kind: 'progress'; readonly share: number }
  | { readonly kind: 'times'; readonly times: RestartTimes }
  | { readonly kind: 'error'; readonly code: KernelError['code']; readonly message: string };

/** Runs the sites in this process. */
const restartHere = async (
  { backend: name, seed, only, most, limitMs }: RestartRequest,
  onProgress: (share: number) => void,
): Promise<RestartTimes> => {
  const { backend } = await load(name);
  try {
    const bounds = boundsOf(backend, most);
    const { sites } = sitesOf(bounds, only);
    return backend.name === 'cuda'
      ? await runRestart(backend, memoryGroups(sites, bounds), seed, onProgress, limitMs)
      : await runProcessorRestart(backend, sites, bounds, seed, onProgress, limitMs);
  } finally {
    backend.close();
  }
};

/** Runs the sites in a child process. Throws KernelError, 'fault' where the child died. */
export const restartApart = async (
  request: RestartRequest,
  onProgress: (share: number) => void,
): Promise<RestartTimes> =>
  await new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(request)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    let isAnswered = false;
    child.on('message', (message) => {
      const answer = message as Answer;
      if (answer.kind === 'progress') {
        onProgress(answer.share);
        return;
      }
      isAnswered = true;
      if (answer.kind === 'times') resolve(answer.times);
      else reject(new KernelError(answer.code, answer.message));
    });
    child.on('exit', (code, signal) => {
      if (!isAnswered)
        reject(
          new KernelError(
            'fault',
            `the measuring process ended (${signal ?? `exit ${code}`}) and left no times; run it again, with less --memory if the machine ran out of it`,
          ),
        );
    });
  });

const answer = async (message: Answer): Promise<void> =>
  await new Promise((resolve) => {
    process.send?.(message, () => {
      resolve();
    });
  });

/** In the child: measures and answers. */
const serve = async (request: RestartRequest): Promise<void> => {
  try {
    const times = await restartHere(request, (share) => void process.send?.({ kind: 'progress', share }));
    await answer({ kind: 'times', times });
  } catch (error) {
    const code = error instanceof KernelError ? error.code : 'fault';
    await answer({ kind: 'error', code, message: (error as Error).message });
  }
  process.exit(0);
};

if (process.send !== undefined && process.argv[1] === fileURLToPath(import.meta.url)) {
  // Nobody is left to measure for; exit() would wait for the kernels that run.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  void serve(JSON.parse(process.argv[2]) as RestartRequest);
}
