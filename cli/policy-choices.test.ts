/** Parameters of policies from files: tables and JSON become values of the experiment, anything else is said. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { choosePolicies } from './policy-choices.ts';

let folder = '';
const path = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-choices-'));
  writeFileSync(path('heads.tsv'), '6.0546875e-01\t0.0\n1.0\t9.6875e-01\n');
  writeFileSync(path('heads.json'), '[[0.5, 1], [0, 0.25]]');
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
    await expect(headsFrom('empty.tsv')).rejects.toThrow(/empty\.tsv: expected JSON or rows of numbers/);
  });
});
