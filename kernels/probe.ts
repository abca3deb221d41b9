/**
 * Asks a library what device it has, in a child process: a broken driver may crash or hang whoever loads it, and that
 * must not be the host (as node-llama-cpp tests its binaries before it loads them).
 */
import { spawn } from 'node:child_process';
import { KernelError, type KernelErrorCode } from './backend.ts';

const TIMEOUT_MS = 60_000;

/** Plain JavaScript, because the child must run from the sources as well as from dist/. */
const SCRIPT = `
class KernelError extends Error {
  constructor(code, message) { super(message); this.code = code; }
}
const [addonPath, library] = process.argv.slice(1);
const addon = require(addonPath);
addon.initialize(KernelError);
const say = (answer) => process.stdout.write(JSON.stringify(answer), () => process.exit(0));
addon.probe(library).then(say, ({ code, message }) => say({ code, message }));
`;

interface Child {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
  readonly signal: string | null;
  readonly late: boolean;
}

const runChild = (addonPath: string, library: string, timeoutMs: number): Promise<Child> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-e', SCRIPT, addonPath, library], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ stdout, stderr, status, signal, late });
    });
  });

const fault = (text: string): KernelError => new KernelError('fault', `the probe of ${text}`);

/** The library's calls digest and device (JSON). Throws KernelError with the library's reason, or how the child ended. */
export const probe = async (
  addonPath: string,
  library: string,
  timeoutMs: number = TIMEOUT_MS,
): Promise<{ digest: string; device: string }> => {
  const { stdout, stderr, status, signal, late } = await runChild(addonPath, library, timeoutMs);
  if (late) throw fault(`${library} gave no answer within ${timeoutMs / 1000} s`);
  if (signal !== null) throw fault(`${library} was ended by ${signal}`);
  let answer: { digest: string; device: string } | { code: KernelErrorCode; message: string };
  try {
    answer = JSON.parse(stdout);
  } catch {
    const last = stderr.trim().split('\n').at(-1) ?? '';
    throw fault(`${library} ended with status ${status}${last === '' ? '' : `: ${last}`}`);
  }
  if ('code' in answer) throw new KernelError(answer.code ?? 'fault', answer.message);
  return answer;
};
