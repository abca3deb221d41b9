/** Runs a verb of the command line in a process of its own, so that a fault of a device or a limit of time ends no more. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../traces/package-root.ts';

export interface Command {
  readonly args: readonly string[];
  /** After this time it is killed, ms. */
  readonly limitMs?: number;
}

/** Why it failed, or null. What it says on stderr is shown; its tables are not, since a recording judges nothing. */
export const runVerb = async ({ args, limitMs = 24 * 3_600_000 }: Command): Promise<string | null> => {
  const bin = fileURLToPath(new URL('bin/kvtier.js', packageRoot()));
  const child = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const kill = (): void => void child.kill('SIGKILL');
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    kill();
  }, limitMs);
  process.once('exit', kill);
  try {
    return await new Promise((resolve) => {
      child.on('error', (error) => {
        resolve(error.message);
      });
      child.on('exit', (code, signal) => {
        if (late) resolve(`did not end within ${limitMs / 1000} s`);
        else resolve(code === 0 ? null : `ended by ${signal ?? `exit ${code}`}`);
      });
    });
  } finally {
    clearTimeout(timer);
    process.off('exit', kill);
  }
};
