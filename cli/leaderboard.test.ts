/** The leaderboard on the small fixture: what a row says, who is on a front, and that the page and picture hold it. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { drawLeaderboard } from '../viz/leaderboard/picture.ts';
import { verb } from './leaderboard.ts';
import { type Measured, overall, withFronts } from './leaderboard-board.ts';

const tiny = fileURLToPath(new URL('../traces/attention/fixtures/tiny.safetensors', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kvtier-leaderboard-'));
afterAll(() => rmSync(folder, { recursive: true }));

const run = async (flags: Record<string, unknown>) => {
  const { context, documents, lines } = recordedContext();
  await verb.run(verb.flags.parse(flags), context);
  return { document: documents[0] as Record<string, unknown>, text: `${lines.join('\n')}\n` };
};

const row = (policy: string, x: number, outputError: number): Measured => ({
  policy,
  atBudget: true,
  bytesPerStep: x,
  stepNs: 10 - x,
  hbmBytes: 1,
  linkBytesPerStep: 0,
  massRecall: 1,
  outputError,
  inputs: 'exact',
});

describe('kvtier leaderboard', () => {
  const policies = ['snapkv', 'quest', 'kivi', 'shadowkv'];

  it('runs each policy at the budget, with full attention as the measure', async () => {
    const { document, text } = await run({ trace: [tiny], budget: 32, steps: 4, policies });
    const [board] = document.boards as readonly {
      rows: readonly Record<string, unknown>[];
      refused: readonly string[];
    }[];
    expect(board.rows.map((r) => r.policy)).toEqual(['full', ...policies]);
    const [full] = document.overall as readonly Record<string, unknown>[];
    expect(full).toMatchObject({
      policy: 'full',
      bytesPerStep: 1,
      stepNs: 1,
      hbmBytes: 1,
      outputError: 0,
      atBudget: false,
    });
    for (const name of policies) expect(text).toContain(name);
    expect(text).toContain('at most 32 tokens');
    expect(text).toContain(
      `kvtier leaderboard --trace "${tiny}" --policies "snapkv,quest,kivi,shadowkv" --budget 32 --steps 4 --out docs`,
    );
  });

  it('writes the page and its picture', async () => {
    await run({ trace: [tiny], budget: 32, steps: 2, policies: ['h2o'], out: folder });
    expect(readdirSync(folder).sort()).toEqual(['leaderboard.md', 'leaderboard.svg']);
    const svg = readFileSync(join(folder, 'leaderboard.svg'), 'utf8');
    expect(svg.match(/<circle/g)).toHaveLength(6);
    expect(svg).not.toMatch(/NaN|Infinity|<script/);
  });

  it('finds fronts of each cost, and of all', () => {
    const rows = withFronts([row('a', 1, 0.5), row('b', 2, 0.1), row('c', 3, 0.3), row('d', 9, 0.2)]);
    expect(rows.map(({ fronts }) => fronts)).toEqual([
      ['bytesPerStep'],
      ['bytesPerStep', 'stepNs', 'hbmBytes'],
      [],
      ['stepNs'],
    ]);
    expect(rows.map(({ best }) => best)).toEqual([true, true, true, true]);
  });

  it('averages what is relative to full attention, over policies that ran everywhere', () => {
    const boards = [
      [row('full', 4, 0), row('a', 1, 0.2), row('b', 1, 0.2)],
      [row('full', 2, 0), row('a', 1, 0.4)],
    ].map(withFronts);
    expect(
      overall(boards).map(({ policy, bytesPerStep, outputError }) => [policy, bytesPerStep, outputError]),
    ).toEqual([
      ['full', 1, 0],
      ['a', 0.375, 0.30000000000000004],
    ]);
    expect(() => overall([[]])).toThrow(/full attention/);
  });

  it('draws names as text', () => {
    const point = { name: '<img src=x>', x: 1, y: 0, onFront: true, best: true, atBudget: true };
    const svg = drawLeaderboard([{ title: 'a & b', points: [point] }], '"quoted"');
    expect(svg).toContain('&lt;img src=x&gt;');
    expect(svg).toContain('a &amp; b');
    expect(svg).not.toContain('<img');
  });
});
