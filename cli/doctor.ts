/**
 * `kvtier doctor`: what this machine can do, and the remedy for what it cannot. Only Node and the shipped sample are
 * needed for the simulator; the rest serves capture, pictures and kernels. Looks, changes nothing.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import type { BackendName } from '../kernels/backend.ts';
import { load } from '../kernels/load.ts';
import { packageRoot } from '../traces/package-root.ts';
import { renderTable } from './table.ts';
import type { Verb } from './verb.ts';

export interface Finding {
  readonly name: string;
  /** What it is needed for. */
  readonly purpose: string;
  /** Without it the simulator itself does not run. */
  readonly required: boolean;
  /** What was found, or null. */
  readonly found: string | null;
  readonly remedy: string;
}

const TIMEOUT_MS = 20_000;

/** First line that a program prints, or null when it is missing or fails. */
const firstLine = (program: string, args: readonly string[]): string | null => {
  const done = spawnSync(program, args, { encoding: 'utf8', timeout: TIMEOUT_MS });
  if (done.error !== undefined || done.status !== 0) return null;
  const line = `${done.stdout}\n${done.stderr}`.split('\n').find((text) => text.trim() !== '');
  return line?.trim() ?? program;
};

const firstOf = (programs: readonly string[], args: readonly string[]): string | null => {
  for (const program of programs) {
    const line = firstLine(program, args);
    if (line !== null) return line;
  }
  return null;
};

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

const findChromium = (): string | null => {
  const chosen = process.env.CHROME_PATH;
  return firstOf(chosen === undefined ? CHROMIUM : [chosen, ...CHROMIUM], ['--version']);
};

const CAPTURE_MODULES = ['torch', 'transformers', 'safetensors', 'gguf'];

/** Versions of the Python packages that capture needs; null unless all of them are there. */
const findCapture = (): string | null => {
  const code = `from importlib.metadata import version as v; print(' '.join(f'{m} {v(m)}' for m in ${JSON.stringify(CAPTURE_MODULES)}))`;
  return firstLine('python3', ['-c', code]);
};

const findHeaders = (): string | null => {
  const beside = join(dirname(dirname(process.execPath)), 'include', 'node');
  return [beside, '/usr/include/node'].find((folder) => existsSync(join(folder, 'node_api.h'))) ?? null;
};

const findSamples = (): string | null => {
  const folder = new URL('traces/samples/', packageRoot());
  if (!existsSync(folder)) return null;
  const names = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  return names.length > 0 ? names.join(', ') : null;
};

const GIB = 2 ** 30;

/** What a kernel backend runs on, or why it can't be had. A GPU is asked in a child process. */
const findBackend = async (
  kind: BackendName,
): Promise<{ readonly found: string } | { readonly found: null; readonly remedy: string }> => {
  try {
    const { backend } = await load(kind);
    const { name, runtime, driver, kernels } = backend.device;
    backend.close();
    const software = [driver === '' ? '' : `driver ${driver}`, runtime].filter((text) => text !== '');
    return { found: `${kernels.length} kernels on ${name} (${software.join(', ')})` };
  } catch (error) {
    return { found: null, remedy: error instanceof Error ? error.message : String(error) };
  }
};

/** Everything that is looked for, in the order shown. */
const examine = async (): Promise<readonly Finding[]> => [
  {
    name: 'Node',
    purpose: 'everything',
    required: true,
    found: `${process.version}, ${cpus().length} cores, ${(totalmem() / GIB).toFixed(1)} GiB memory`,
    remedy: 'install Node 20.19 or later',
  },
  {
    name: 'sample trace',
    purpose: 'compare without arguments',
    required: true,
    found: findSamples(),
    remedy: `restore ${fileURLToPath(new URL('traces/samples', packageRoot()))} (reinstall the package)`,
  },
  {
    name: 'Chromium',
    purpose: 'tests of the report page',
    required: false,
    found: findChromium(),
    remedy: 'apt-get install chromium, or set CHROME_PATH',
  },
  {
    name: 'Python',
    purpose: 'capturing attention',
    required: false,
    found: firstLine('python3', ['--version']),
    remedy: 'install Python 3.10 or later',
  },
  {
    name: 'capture packages',
    purpose: 'capturing attention',
    required: false,
    found: findCapture(),
    remedy: `pip install ${CAPTURE_MODULES.join(' ')}`,
  },
  {
    name: 'C++ compiler',
    purpose: 'building CPU kernels',
    required: false,
    found: firstOf(['c++', 'g++', 'clang++'], ['--version']),
    remedy: 'apt-get install g++',
  },
  {
    name: 'Node headers',
    purpose: 'building CPU kernels',
    required: false,
    found: findHeaders(),
    remedy: 'install Node from its own archive, or the package libnode-dev',
  },
  {
    name: 'CUDA compiler',
    purpose: 'building GPU kernels',
    required: false,
    found: firstLine('nvcc', ['--version']) === null ? null : 'nvcc',
    remedy: 'install the CUDA toolkit, 12.8 or later',
  },
  {
    name: 'GPU',
    purpose: 'running GPU kernels',
    required: false,
    found: firstLine('nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader']),
    remedy: 'none needed for simulation; use a machine with an NVIDIA GPU and its driver',
  },
  {
    name: 'CPU kernels',
    purpose: 'calibrate and validate on this processor',
    required: false,
    remedy: '',
    ...(await findBackend('cpu')),
  },
  {
    name: 'CUDA kernels',
    purpose: 'calibrate and validate on a GPU',
    required: false,
    remedy: '',
    ...(await findBackend('cuda')),
  },
];

const flags = z.object({});

const show = (findings: readonly Finding[], columns: number): string => {
  const rows = findings.map((finding) => [
    finding.found === null ? (finding.required ? 'MISSING' : 'missing') : 'ok',
    finding.name,
    finding.purpose,
    finding.found ?? finding.remedy,
  ]);
  return renderTable(['', 'what', 'for', 'found, or how to get it'], rows, { columns });
};

export const verb = {
  name: 'doctor',
  summary: 'what this machine can do, and the remedy for what it cannot',
  flags,
  examples: ['kvtier doctor', 'kvtier doctor --json'],
  async run(_flags, context) {
    const findings = await examine();
    context.print(show(findings, context.columns));
    context.printJson({
      format: 'kvtier.doctor/1',
      checks: findings.map((f) => ({ ...f, ok: f.found !== null })),
    });
    if (findings.some((finding) => finding.required && finding.found === null)) process.exitCode = 1;
  },
} satisfies Verb<typeof flags>;
