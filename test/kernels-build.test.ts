/**
 * Building of the native kernels where something is missing: installing goes on with one line that says what and how to
 * get it, and the build as such fails with the same line. On a tree of its own, with compilers that are only names.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from './scan.ts';

const tree = mkdtempSync(join(tmpdir(), 'kvtier-build-'));
const bin = join(tree, 'bin');
mkdirSync(bin);
for (const part of ['scripts', 'kernels/addon', 'kernels/cpu', 'kernels/calls.generated.h', 'kernels/abi.h'])
  cpSync(join(root, part), join(tree, part), { recursive: true });
writeFileSync(join(tree, 'package.json'), '{ "type": "module" }');
afterAll(() => rmSync(tree, { recursive: true, force: true }));

/** A program of that name which answers --version, and otherwise runs `body`. */
const program = (name: string, body: string): string => {
  const path = join(bin, name);
  writeFileSync(path, `#!/bin/sh\nif [ "$1" = --version ]; then echo 1; exit 0; fi\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
};

const build = (args: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
  const script = join(tree, 'scripts/build-kernels.js');
  const env = { PATH: join(tree, 'nothing'), HOME: tree, ...environment };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    env,
    encoding: 'utf8',
  });
  expect(stdout).toBe('');
  return { status, lines: stderr.trimEnd().split('\n') };
};

describe('building the kernels', () => {
  it('says that there is no compiler', () => {
    const line = 'kernels: no C++ compiler, so no CPU kernels (apt-get install g++, then npm run kernels)';
    expect(build(['--soft'])).toEqual({ status: 0, lines: [line] });
    expect(build([])).toEqual({ status: 1, lines: [line] });
  });

  it('says that a package is missing', () => {
    const line = 'kernels: the package node-addon-api is missing, so no CPU kernels (npm ci)';
    expect(build(['--soft'], { CXX: program('cxx', 'exit 0') })).toEqual({ status: 0, lines: [line] });
  });

  it('says what does not compile, in one line while installing, and leaves nothing half made', () => {
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    const CXX = program('cxx', 'echo "x.cpp:1: error: out of ideas" >&2; exit 1');
    const soft = build(['--soft'], { CXX });
    expect(soft.status).toBe(0);
    expect(soft.lines).toHaveLength(1);
    expect(soft.lines[0]).toMatch(/^kernels: \w+\.cpp does not compile: x\.cpp:1: error: out of ideas$/);
    expect(build([], { CXX }).status).toBe(1);
    expect(existsSync(join(tree, 'kernels/build/kvtier.node'))).toBe(false);
    expect(existsSync(join(tree, 'kernels/build/lock'))).toBe(false);
  });

  it('takes the place of a build that was killed', () => {
    const gone = spawnSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }).stdout.trim();
    mkdirSync(join(tree, 'kernels/build'), { recursive: true });
    writeFileSync(join(tree, 'kernels/build/lock'), gone);
    const CXX = program('cxx', 'exit 1');
    expect(build(['--soft'], { CXX }).lines[0]).toContain('does not compile');
  });

  it('says that there is no compiler of CUDA kernels, and builds the others', () => {
    const CXX = program('cxx', 'while [ $# -gt 0 ]; do case $1 in -o | -MF) : > "$2" ;; esac; shift; done');
    const { status, lines } = build(['--cuda'], { CXX, CUDA_HOME: join(tree, 'nothing') });
    expect(status).toBe(0);
    expect(lines[0]).toMatch(/^kernels: kernels\/build\/kvtier\.node is ready, \d+ files compiled/);
    expect(lines.slice(1)).toEqual([
      'kernels: no nvcc, so no CUDA kernels (install the CUDA toolkit, 12.8 or later)',
    ]);
  });
});
