/** A calibration whose measuring process is killed: one line, exit code 1, and no file that is not whole. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { describeNative } from './native.ts';
import { root } from './scan.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvtier-killed-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Processes that a process started, of all that run now. */
const childrenOf = (parent: number): readonly number[] =>
  readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      // pid (name) state ppid: the name may hold anything.
      const [, fields] = /\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'latin1')) ?? [];
      return Number(fields) === parent ? [Number(name)] : [];
    } catch {
      return []; // it has just ended
    }
  });

describeNative('calibrate', () => {
  it.skipIf(process.platform !== 'linux')('says that its measuring process was killed', async () => {
    const flags = ['--backend', 'cpu', '--only', 'host-copy', '--memory', '16M', '--restarts', '20'];
    const out = ['--out', join(folder, 'mine.json'), '--samples', join(folder, 'mine.samples.json.gz')];
    const verb = spawn(process.execPath, [join(root, 'bin/kvtier.js'), 'calibrate', ...flags, ...out]);
    let stderr = '';
    verb.stderr.on('data', (text) => {
      stderr += text;
    });
    const ended = new Promise((resolve) => verb.once('close', resolve));
    let children: readonly number[] = [];
    while (children.length === 0 && verb.exitCode === null) {
      await wait(20);
      children = childrenOf(verb.pid ?? 0);
    }
    for (const child of children) process.kill(child, 'SIGKILL');
    expect(await ended).toBe(1);
    const [, line, ...rest] = stderr.trimEnd().split('\n');
    expect(line).toMatch(/^kvtier: the measuring process ended \(SIGKILL\) and left no times; run it again/);
    expect(rest).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
  });
});
