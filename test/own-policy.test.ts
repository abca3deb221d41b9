/** A user's own policy: `kvtier new policy` writes a file that runs as it is beside the catalog's; a bad one gets one line. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { policyTemplate } from '../cli/new-policy.ts';
import { loadPolicyFile } from '../cli/policy-file.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import { worldOf } from './policy-cases.ts';
import { checkLaws, standard } from './policy-laws.ts';
import { root } from './scan.ts';

const bin = join(root, 'bin/kvtier.js');
const trace = join(root, 'traces/attention/fixtures/tiny.safetensors');
/** Outside the package: what the files import is lent to them. */
let folder = '';

const kvtier = (...args: readonly string[]) =>
  spawnSync(process.execPath, [bin, ...args], { cwd: folder, encoding: 'utf8' });

const lacking = {
  'empty.ts': 'export const other = 1;\n',
  'broken.ts': 'export const policy = {;\n',
  'config.ts': "export const policy = { name: 'mine', requires: [], config: {}, create: () => ({}) };\n",
  'shadow.js':
    "import * as z from 'zod';\nexport const policy = { name: 'quest', requires: [], config: z.object({}), create: () => ({}) };\n",
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-own-policy-'));
  for (const [name, text] of Object.entries(lacking)) writeFileSync(join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('kvtier new policy writes a file and never replaces one', () => {
  const made = kvtier('new', 'policy', 'every-other', '--json');
  expect(made.stderr).toBe('');
  expect(JSON.parse(made.stdout)).toEqual({ policy: 'every-other', file: 'every-other.ts' });
  const text = readFileSync(join(folder, 'every-other.ts'), 'utf8');
  expect(text).toBe(policyTemplate('every-other.ts', 'every-other'));
  const again = kvtier('new', 'policy', 'every-other');
  expect(again.status).toBe(2);
  expect(again.stderr).toMatch(/^kvtier: every-other\.ts: exists already[^\n]*\n$/);
  expect(readFileSync(join(folder, 'every-other.ts'), 'utf8')).toBe(text);
  expect(kvtier('new', 'policy', 'lab/plain.js').status).toBe(0);
});

test('what it wrote runs, in TypeScript, in JavaScript and in a stack, with its parameters', () => {
  const policies = 'full,./every-other.ts,lab/plain.js:recentTokens=16,"stack(./every-other.ts,quest)"';
  const args = ['compare', '--trace', trace, '--policies', policies.replaceAll('"', ''), '--json'];
  const run = kvtier(...args, '--set', 'every-other.recentTokens=8');
  expect(run.stderr).toBe('');
  const results: readonly {
    policy: string;
    resident: { hbm: { kvPeakBytes: number } };
    quality: { massRecall: { mean: number } };
  }[] = JSON.parse(run.stdout).policies;
  expect(results.map(({ policy }) => policy)).toEqual([
    'full',
    'every-other',
    'plain:recentTokens=16',
    'stack(./every-other.ts,quest)',
  ]);
  for (const own of results.slice(1)) {
    expect(own.resident.hbm.kvPeakBytes).toBeLessThan(results[0].resident.hbm.kvPeakBytes);
    expect(own.quality.massRecall.mean).toBeGreaterThan(0.3);
    expect(own.quality.massRecall.mean).toBeLessThan(1);
  }
});

test('--policy adds one to those of --policies, or to the usual ones', () => {
  const names = (...args: readonly string[]): readonly string[] =>
    JSON.parse(kvtier('compare', '--trace', trace, ...args, '--steps', '1', '--json').stdout).policies.map(
      ({ policy }: { readonly policy: string }) => policy,
    );
  const own = ['--policy', './every-other.ts'];
  expect(names('--policies', 'full', ...own, '--policy', 'quest')).toEqual(['full', 'every-other', 'quest']);
  expect(names(...own).slice(-2)).toEqual(['pariskv', 'every-other']);
});

test('what it wrote keeps the laws of all policies, and its token budget', async () => {
  const plugin = await loadPolicyFile(join(folder, 'every-other.ts'));
  const world = worldOf(standard);
  const policy = createPolicy(plugin, { ...plugin.atBudget?.(100, world) }, world);
  checkLaws({ shape: standard, seed: 2, policy, world });
});

test('what it wrote is strictly typed against the package', () => {
  // Inside the package, so that its own name is found; dist/ is outside what git and the tests see.
  const inside = join(root, 'dist');
  mkdirSync(inside, { recursive: true });
  const place = mkdtempSync(join(inside, 'own-policy-'));
  try {
    writeFileSync(join(place, 'typed.ts'), policyTemplate('typed.ts', 'typed'));
    const options = ['--strict', '--noEmit', '--skipLibCheck', '--ignoreConfig', '--target', 'es2023'];
    const modules = ['--module', 'nodenext', '--types', ''];
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    execFileSync(process.execPath, [compiler, ...options, ...modules, join(place, 'typed.ts')], {
      stdio: 'pipe',
    });
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
});

test.each([
  ['./empty.ts', /expected an export named "policy"/],
  ['./broken.ts', /broken\.ts: /],
  ['./config.ts', /policy\.config: expected a z\.object/],
  ['./shadow.js', /policy\.name: 'quest' is a policy of the catalog/],
  ['./missing.ts', /no such file/],
])('%s is refused in one line', (file, message) => {
  const { status, stderr } = kvtier('compare', '--trace', trace, '--policies', file);
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});

test.each([
  ['quest', /'quest' is a policy of the catalog/],
  ['My Policy', /expected a name such as my-policy, got 'My Policy'/],
])('kvtier new policy %s is refused', (name, message) => {
  const { status, stderr } = kvtier('new', 'policy', name);
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
});
