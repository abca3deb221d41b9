/** A user's own policy file runs beside the catalog's, as docs/policies.md shows it; a bad one gets one line. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'bin/kvtier.js');
let folder = '';

beforeAll(() => {
  // Inside the package, so that the file can import it by name as an installed user's would.
  mkdirSync(join(root, 'dist'), { recursive: true });
  folder = mkdtempSync(join(root, 'dist/own-policy-'));
  const doc = readFileSync(join(root, 'docs/policies.md'), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(doc)?.[1];
  writeFileSync(join(folder, 'every-other.ts'), code ?? '');
  writeFileSync(join(folder, 'empty.ts'), 'export const other = 1;\n');
  writeFileSync(join(folder, 'broken.ts'), 'export const policy = {;\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const trace = join(root, 'traces/attention/fixtures/tiny.safetensors');

test('the documented policy runs, with its parameter', () => {
  const args = [
    'compare',
    '--trace',
    trace,
    '--policies',
    'full,./every-other.ts',
    '--set',
    'every-other.recentTokens=8',
    '--json',
  ];
  const { policies } = JSON.parse(
    execFileSync(process.execPath, [bin, ...args], { cwd: folder, encoding: 'utf8' }),
  );
  expect(policies.map((p: { policy: string }) => p.policy)).toEqual(['full', 'every-other']);
  const [full, own] = policies;
  expect(own.resident.hbm.kvPeakBytes).toBeLessThanOrEqual(full.resident.hbm.kvPeakBytes);
  expect(own.quality.massRecall.mean).toBeGreaterThan(0.3);
  expect(own.quality.massRecall.mean).toBeLessThan(1);
});

test.each([
  ['./empty.ts', /expected an export named "policy"/],
  ['./broken.ts', /broken\.ts: /],
  ['./missing.ts', /no such file/],
])('%s is refused in one line', (file, message) => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [bin, 'compare', '--trace', trace, '--policies', file],
    { cwd: folder, encoding: 'utf8' },
  );
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});
