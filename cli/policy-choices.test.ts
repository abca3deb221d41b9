/**
 * Policies as the command line names them: parameters, also from files, combinations, settings, budgets, and what is
 * said of wrong ones.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { worldOf } from '../test/policy-cases.ts';
import { splitList } from './flags.ts';
import { atBudget, choosePolicies } from './policy-choices.ts';

let folder = '';
const path = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-choices-'));
  writeFileSync(path('heads.tsv'), '6.0546875e-01\t0.0\n1.0\t9.6875e-01\n');
  writeFileSync(path('heads.json'), '[[0.5, 1], [0, 0.25]]');
  writeFileSync(path('windows.csv'), '\ufeff0.5,1\r\n0,0.25\r\n');
  writeFileSync(path('ragged.csv'), '0.5,1\n0,\n');
  writeFileSync(path('text.tsv'), '0.5\t1\nnot a number\n');
  writeFileSync(path('empty.tsv'), '\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const headsFrom = async (name: string): Promise<unknown> => {
  const { choices } = await choosePolicies(['duoattention'], [`duoattention.heads=@${path(name)}`]);
  return choices[0].config.heads;
};

describe('a parameter from a file', () => {
  test('is a table of numbers, or JSON', async () => {
    expect(await headsFrom('heads.tsv')).toEqual([
      [0.60546875, 0],
      [1, 0.96875],
    ]);
    expect(await headsFrom('heads.json')).toEqual([
      [0.5, 1],
      [0, 0.25],
    ]);
    expect(await headsFrom('windows.csv')).toEqual(await headsFrom('heads.json'));
    const own = await choosePolicies([`prulong:heads=@${path('heads.json')};streamingRatio=null`], []);
    expect(own.choices[0].config).toMatchObject({
      heads: [
        [0.5, 1],
        [0, 0.25],
      ],
      streamingRatio: null,
    });
  });

  test('is refused in one line that names it', async () => {
    await expect(headsFrom('none.tsv')).rejects.toThrow(
      /duoattention, parameter heads: no such file: .*none\.tsv$/,
    );
    await expect(headsFrom('text.tsv')).rejects.toThrow(
      /text\.tsv: expected JSON or rows of numbers, found "not a/,
    );
    await expect(headsFrom('ragged.csv')).rejects.toThrow(/expected JSON or rows of numbers, found "0,"/);
    await expect(headsFrom('empty.tsv')).rejects.toThrow(/empty\.tsv: expected JSON or rows of numbers/);
  });
});

const configOf = async (entry: string, sets: readonly string[] = []) =>
  (await choosePolicies([entry], sets)).choices[0];

describe('--policies', () => {
  test('fills every default, and lets own parameters win over settings', async () => {
    const { label, name, config } = await configOf('quest:budgetTokens=64', [
      'quest.budgetTokens=128',
      'quest.page-tokens=8',
    ]);
    expect([label, name]).toEqual(['quest:budgetTokens=64', 'quest']);
    expect(config).toMatchObject({ budgetTokens: 64, pageTokens: 8, tier: 'hbm' });
  });

  test('reads a combination, its parts and settings for either', async () => {
    const text = 'stack(snapkv:budgetTokens=100;windowTokens=8,every(quest):n=2)';
    const { label, name, config } = await configOf(text, ['quest.tier=dram', 'every(quest).n=3']);
    expect(label).toBe(text);
    expect(name).toBe('stack(snapkv,every(quest))');
    expect(config).toMatchObject({
      snapkv: { budgetTokens: 100, windowTokens: 8, kernel: 5 },
      'every(quest)': { n: 2, quest: { tier: 'dram', budgetTokens: 2048 } },
    });
  });

  test('splits at commas outside brackets only', () => {
    expect(splitList('full,stack(snapkv,quest:x=1;y=2),per-head(a,b):heads=[0,1]')).toEqual([
      'full',
      'stack(snapkv,quest:x=1;y=2)',
      'per-head(a,b):heads=[0,1]',
    ]);
    expect(splitList('quest.layers=0,1,snapkv.kernel=3')).toEqual(['quest.layers=0,1', 'snapkv.kernel=3']);
  });

  test.each([
    ['stack(snapkv,qest)', /unknown policy 'qest': did you mean quest/],
    ['stak(snapkv,quest)', /unknown combinator 'stak': did you mean stack/],
    [
      'stack(snapkv,quest:budget=1)',
      /policy quest has no parameter 'budget' \(did you mean 'budgetTokens'\?\)/,
    ],
    ['stack(snapkv,quest:budgetTokens=0)', /budgetTokens/],
    ['stack(snapkv,quest', /closing bracket/],
    ['quest:budgetTokens', /param=value/],
    ['every(quest):n=0', /policy every\(quest\), parameter n: /],
  ])('%s is refused', async (entry, message) => {
    await expect(configOf(entry)).rejects.toThrow(message);
  });

  test('takes settings for chosen policies only', async () => {
    await expect(configOf('quest', ['snapkv.kernel=3'])).rejects.toThrow(/snapkv is not among --policies/);
    await expect(configOf('quest', ['quest=3'])).rejects.toThrow(/expected policy.param=value/);
  });
});

test('defaults of a verb hold below what the user gave, in combinations too', async () => {
  const defaults = { pariskv: { counts: 'halves' }, ttkv: { stages: '2' } };
  const entries = ['pariskv', 'pariskv:counts=words', 'stack(snapkv,pariskv)', 'quest'];
  const { choices } = await choosePolicies(entries, [], defaults);
  expect(choices.map(({ config }) => config)).toMatchObject([
    { counts: 'halves', topK: 100 },
    { counts: 'words' },
    { pariskv: { counts: 'halves' } },
    { budgetTokens: 2048 },
  ]);
  expect((await choosePolicies(['pariskv'], [])).choices[0].config).toMatchObject({ counts: 'words' });
});

describe('a token budget for all', () => {
  const world = worldOf({
    layers: 2,
    heads: 4,
    kvHeads: 2,
    headDim: 32,
    promptTokens: 5000,
    steps: 8,
    recordedLayers: [0],
  });

  test('goes to every policy that takes one; what the user gave stays', async () => {
    const chosen = await choosePolicies(['full', 'snapkv:windowTokens=16', 'quest'], ['quest.tier=dram']);
    const { choices, without } = atBudget(chosen, 256, world);
    expect(without).toEqual(['full']);
    expect(choices.map(({ config }) => config)).toMatchObject([
      {},
      { budgetTokens: 256, windowTokens: 16 },
      { budgetTokens: 256, tier: 'dram', denseLayers: 0 },
    ]);
  });
});
