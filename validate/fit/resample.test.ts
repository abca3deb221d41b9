/** Resampled fits: what is drawn alike is fitted once, and threads find what one thread finds. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../sim/engine/random.ts';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { gatherOf } from '../../sim/timing/cost-cases.ts';
import { predictNs } from '../predict-site.ts';
import type { SiteSamples } from '../samples.ts';
import { drawsOf, fitDraws, fitResampled } from './resample.ts';
import { samplesOf } from './sample-cases.ts';

const BUILT = join(import.meta.dirname, '../../dist/validate/fit/resample.js');
const base = { hardware: loadProfile('h100-sxm'), stack: loadStack() };

const sites = (): SiteSamples[] => {
  const machine = resolveMachine(loadProfile('a100-80-sxm'), loadStack());
  const random = createRandom(7, 'noise');
  return [64, 128, 512, 4096].flatMap((rowBytes) =>
    [512, 4096, 65_536].map((rows): SiteSamples => {
      const operation = gatherOf({ tier: 'hbm', mode: 'uva', rows, rowBytes });
      const ns = predictNs([operation], machine);
      const restartNs = [0, 1, 2].map(() => ns * (1 + 0.05 * random.uniform()));
      const samplesNs = restartNs.map((x) => [x]);
      return {
        benchmark: 'gather',
        id: `${rows} x ${rowBytes}`,
        operations: [operation],
        restartNs,
        samplesNs,
      };
    }),
  );
};

const samples = samplesOf(sites());

describe('drawsOf', () => {
  const draws = drawsOf(samples, 3, 200);

  it('keeps one draw of each set of restarts, and how often it was drawn', () => {
    // The median counts: that of three picks is one of the three restarts, and all three are one set more.
    expect(draws.length).toBe(4);
    const setOf = (picks: readonly number[]) =>
      new Set(picks).size === 3 ? 'all' : `${[...picks].sort((a, b) => a - b)[1]}`;
    expect(new Set(draws.map(({ picks }) => setOf(picks))).size).toBe(4);
    expect(draws.reduce((sum, { count }) => sum + count, 0)).toBe(200);
  });

  it('fits draws of the same set alike', () => {
    expect(fitResampled(samples, base, 'a-card', [0, 2, 2])).toEqual(
      fitResampled(samples, base, 'a-card', [2, 0, 2]),
    );
  });
});

describe('fitDraws', () => {
  const draws = [
    [0, 0, 0],
    [1, 2, 2],
    [2, 2, 2],
    [0, 1, 2],
    [1, 1, 1],
  ] as const;

  it('answers in the order of the draws', async () => {
    const fitted: number[] = [];
    const found = await fitDraws(samples, base, 'a-card', draws, (draw) => fitted.push(draw), 1);
    expect(fitted).toEqual([0, 1, 2, 3, 4]);
    expect(found).toEqual(draws.map((picks) => fitResampled(samples, base, 'a-card', picks)));
    expect(found[0]).not.toEqual(found[2]);
  });

  // `npm test` builds it first.
  it.skipIf(!existsSync(BUILT))('finds the same in threads of the built package', async () => {
    const built = (await import(/* @vite-ignore */ BUILT)) as { readonly fitDraws: typeof fitDraws };
    const fitted: number[] = [];
    const found = await built.fitDraws(samples, base, 'a-card', draws, (draw) => fitted.push(draw), 2);
    expect(fitted.sort()).toEqual([0, 1, 2, 3, 4]);
    expect(found).toEqual(await fitDraws(samples, base, 'a-card', draws, () => {}, 1));
    const broken = { ...base, stack: { ...base.stack, hostNs: 'soon' } } as unknown as typeof base;
    await expect(built.fitDraws(samples, broken, 'a-card', draws, () => {}, 2)).rejects.toThrow(/hostNs/);
  });
});
