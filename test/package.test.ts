/**
 * The package as others get it: packed, installed into an empty folder, run there, and every documented command
 * (a `sh` block under `<!-- test -->` in README.md or docs/) run as written. `npm test` builds dist/ beforehand.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filesUnder, root } from './scan.ts';

interface Packed {
  readonly filename: string;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

const INSTALL_MS = 480_000;
const COMMAND_MS = 120_000;
const MAX_UNPACKED_BYTES = 48e6;

let folder = '';
let packed: Packed;

/** The environment of a person who never ran this test: no npm or vitest variables, the installed bin in the path. */
const environment = (): NodeJS.ProcessEnv => {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(?:npm_|VITEST|NODE_ENV|NODE_OPTIONS)/.test(name),
  );
  const path = [join(folder, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
  return {
    ...Object.fromEntries(own),
    PATH: path,
    npm_config_loglevel: 'error',
    npm_config_update_notifier: 'false',
  };
};

const npm = (args: readonly string[], cwd: string): string =>
  execFileSync('npm', args, { cwd, env: environment(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** `--norc`: a shell whose input is a socket, as Node's is, takes itself for a remote one and would read its files. */
const shell = (script: string): { status: number | null; stdout: string; stderr: string } =>
  spawnSync('bash', ['--norc', '-euo', 'pipefail', '-c', script], {
    cwd: folder,
    env: environment(),
    encoding: 'utf8',
    timeout: COMMAND_MS,
    maxBuffer: 1e8,
  });

const newestSource = (): { readonly path: string; readonly timeMs: number } => {
  const floors = ['sim', 'kernels', 'traces', 'viz', 'validate', 'cli', 'bench'];
  return floors
    .flatMap((floor) => filesUnder(floor, ['.ts']))
    .filter((path) => !path.endsWith('.test.ts'))
    .map((path) => ({ path, timeMs: statSync(join(root, path)).mtimeMs }))
    .reduce((a, b) => (b.timeMs > a.timeMs ? b : a));
};

beforeAll(() => {
  const source = newestSource();
  const builtMs = statSync(join(root, 'dist/cli/main.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (source.timeMs > builtMs)
    throw new Error(`dist/ is older than ${source.path}: run \`npm run build\` first`);
  folder = mkdtempSync(join(tmpdir(), 'kvtier-package-'));
  [packed] = JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root));
  writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "version": "1.0.0", "private": true }\n');
  npm(['install', '--no-audit', '--no-fund', '--prefer-offline', `./${packed.filename}`], folder);
  // Documented commands name the samples by their path in the repository.
  symlinkSync(join(folder, 'node_modules/kvtier/traces'), join(folder, 'traces'));
}, INSTALL_MS);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the packed package', () => {
  it('holds what runs and what must travel with it, and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    expect(paths).toEqual(
      expect.arrayContaining(['LICENSE', 'README.md', 'CHANGELOG.md', 'bin/kvtier.js', 'dist/cli/main.js']),
    );
    expect(paths.some((path) => /^traces\/samples\/.*\.safetensors$/.test(path))).toBe(true);
    expect(paths.filter((path) => /\.test\.|(^|\/)test\/|__pycache__|\.tsbuildinfo/.test(path))).toEqual([]);
    expect(packed.unpackedSize).toBeLessThan(MAX_UNPACKED_BYTES);
  });

  it('holds what its kernels are built from', () => {
    const paths = packed.files.map(({ path }) => path);
    const sources = filesUnder('kernels', ['.h', '.cpp', '.cu']).filter((path) => !path.includes('/build/'));
    expect(sources.length).toBeGreaterThan(0);
    expect(paths).toEqual(
      expect.arrayContaining([...sources, 'scripts/build-kernels.js', 'scripts/compile-native.js']),
    );
  });

  it('lists its policies', () => {
    const { status, stdout, stderr } = shell('npx kvtier list policies --json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(JSON.parse(stdout).policies.length).toBeGreaterThan(0);
  });

  it(
    'compares policies on its own sample',
    () => {
      const { status, stdout, stderr } = shell('npx kvtier compare --json');
      expect(status, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ format: 'kvtier.result/1' });
    },
    COMMAND_MS,
  );

  it('ends quietly when its reader stops reading', () => {
    const { stderr } = shell('set +o pipefail; npx kvtier list models --json | head -c 10 >/dev/null');
    expect(stderr).toBe('');
  });
});

const documents = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)]
  .filter((path) => path.endsWith('.md'))
  .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));

interface Command {
  readonly at: string;
  readonly script: string;
  /** What the document says that it prints, or null. */
  readonly output: string | null;
}

const MARKED = /<!-- test -->\s*```sh\n([\s\S]*?)\n```(?:\s*<!-- output -->\s*```text\n([\s\S]*?)\n```)?/g;

/** Marked blocks of a document, each with the line on which its mark stands. */
const marked = ({ path, text }: { path: string; text: string }): readonly Command[] =>
  [...text.matchAll(MARKED)].map((match) => ({
    at: `${path}:${text.slice(0, match.index).split('\n').length}`,
    script: match[1],
    output: match[2] ?? null,
  }));

describe('the documented commands', () => {
  const commands = documents.flatMap(marked);

  it('exist', () => expect(commands.length).toBeGreaterThan(0));

  it.each(commands)(
    'run as written at $at',
    ({ script, output }) => {
      const { status, stdout, stderr } = shell(script);
      expect(status, stderr).toBe(0);
      expect(stdout).not.toBe('');
      if (output !== null) expect(stdout.trimEnd(), 'stale: run `npm run docs`').toBe(output);
    },
    COMMAND_MS,
  );
});

describe('the documents', () => {
  it('link to files that exist', () => {
    const others = ['CONTRIBUTING.md', 'CHANGELOG.md'].map((path) => ({
      path,
      text: readFileSync(join(root, path), 'utf8'),
    }));
    const broken = [...documents, ...others].flatMap(({ path, text }) =>
      [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)]
        .map((match) => match[1])
        .filter((target) => !statSync(join(root, path, '..', target), { throwIfNoEntry: false }))
        .map((target) => `${path}: ${target}`),
    );
    expect(broken).toEqual([]);
  });
});
