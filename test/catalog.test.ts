/** The catalog generator on a small tree: what becomes an entry, in which order, and how staleness is told. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { root } from './scan.ts';

let tree = '';

const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
};
const catalog = (...args: string[]): { status: number | null; stderr: string } =>
  spawnSync(process.execPath, [join(root, 'scripts/catalog.js'), ...args, '--root', tree], {
    encoding: 'utf8',
  });

beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), 'kvtier-catalog-'));
});
afterEach(() => rmSync(tree, { recursive: true, force: true }));

it('lists the files that export the symbol, sorted, and no others', () => {
  put('sim/policy/policies/quest.ts', 'export const policy = {} as const;');
  put('sim/policy/policies/full-offload.ts', 'export const policy: unknown = {};');
  put('sim/policy/policies/shared.ts', 'export const policyOf = 1;');
  put('sim/policy/policies/quest.test.ts', 'export const policy = 1;');
  expect(catalog().status).toBe(0);
  expect(readFileSync(join(tree, 'sim/policy/catalog.generated.ts'), 'utf8').split('\n').slice(1)).toEqual([
    "import { policy as policyFullOffload } from './policies/full-offload.ts';",
    "import { policy as policyQuest } from './policies/quest.ts';",
    '',
    'export const catalog = {',
    '  "full-offload": policyFullOffload,',
    '  "quest": policyQuest,',
    '} as const;',
    '',
  ]);
});

it('inlines JSON, and says which file is none', () => {
  put('sim/model/configs/llama-3.1-8b.json', '{"layers": 32}');
  expect(catalog().status).toBe(0);
  expect(readFileSync(join(tree, 'sim/model/catalog.generated.ts'), 'utf8')).toContain('"layers":32');
  put('sim/model/configs/broken.json', '{');
  expect(catalog()).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/configs\/broken\.json: expected JSON/),
  });
});

it('takes name and summary of a verb from its own literal', () => {
  const other = "const other = { name: 'no', summary: 'no' };\n";
  put('cli/mrc.ts', `${other}export const verb = {\n  name: 'mrc',\n  summary: "what it's for",\n};\n`);
  expect(catalog().status).toBe(0);
  const text = readFileSync(join(tree, 'cli/catalog.generated.ts'), 'utf8');
  expect(text).toContain(`"mrc": {\n    summary: "what it's for",\n    load: () => import('./mrc.ts')`);
});

it('fails --check when stale and writes nothing then', () => {
  put('sim/model/configs/a.json', '{}');
  expect(catalog('--check')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/stale: sim\/model\/catalog/),
  });
  expect(catalog('--check').status).toBe(1);
  expect(catalog().status).toBe(0);
  expect(catalog('--check').status).toBe(0);
  put('sim/model/configs/b.json', '{}');
  expect(catalog('--check').status).toBe(1);
});
