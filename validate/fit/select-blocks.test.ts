/** What the cost model says of blocks that select is what the CUDA kernels launch. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FEW_CLUSTERS,
  FEW_SLICE,
  FEWEST_THREADS,
  GATHERED,
  GROUP,
  LEAST_FEW,
  LEAST_SCORES,
  SHARED_SLICE,
  selectBlocks,
} from '../../sim/timing/select-blocks.ts';
import { MERGED_AT_ONCE } from '../../sim/timing/sizes.ts';

const source = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../kernels/cuda', name), 'utf8');
const constantOf = (file: string, name: string): number => {
  const [, value = ''] = source(file).match(new RegExp(`${name} = ([^;]+);`)) ?? [];
  const [base, shift = '0'] = value.split('<<');
  return Number(base) * 2 ** Number(shift);
};

/** Clusters of an H100, whose groups of multiprocessors have 18 of them, 16 and 10. */
const H100 = [132, 66, 39, 30, 22, 17, 15, 15, 9, 7, 7, 7, 7, 7, 7, 7];

describe('constants', () => {
  it('are those of the kernels', () => {
    expect(SHARED_SLICE).toBe(constantOf('cluster-launch.h', 'kSharedSlice'));
    expect(FEW_SLICE).toBe(constantOf('select-few-launch.h', 'kFewSlice'));
    expect(LEAST_FEW).toBe(constantOf('select-few-launch.h', 'kLeastFew'));
    expect(LEAST_SCORES).toBe(constantOf('select-few-launch.h', 'kLeastScores'));
    expect(GROUP).toBe(constantOf('select-few.h', 'kGroup'));
    expect(GATHERED).toBe(constantOf('select-few.h', 'kMostGathered'));
    expect(FEWEST_THREADS).toBe(constantOf('select-digits.h', 'kFewestThreads'));
    expect(source('select-few-launch.h')).toContain(`sizes{${FEW_CLUSTERS.join(', ')}}`);
    expect(MERGED_AT_ONCE).toBe(constantOf('merge.cu', 'kAtOnce'));
  });
});

describe('selectBlocks', () => {
  it('shares a long row among as many blocks as find their place with all rows', () => {
    const slices = [1, 8, 16, 64].map((rows) => selectBlocks({ rows, of: 40_960, k: 10_240 }, H100).slice);
    expect(slices).toEqual([5120, 5120, 10_240, 20_480]);
  });

  it('takes maxima of groups first where few of many scores are chosen', () => {
    const of = 2 ** 17;
    expect(selectBlocks({ rows: 16, of, k: 2 ** 11 }, H100)).toMatchObject({ few: true, shared: true });
    expect(selectBlocks({ rows: 16, of, k: 2 ** 15 }, H100).few).toBe(false);
    expect(selectBlocks({ rows: 16, of, k: 2 ** 11, keys: 'counts' }, H100).few).toBe(false);
  });

  it('looks at every score', () => {
    const operation = fc.record({
      rows: fc.integer({ min: 1, max: 512 }),
      of: fc.integer({ min: 1, max: 2 ** 20 }),
    });
    fc.assert(
      fc.property(operation, ({ rows, of }) => {
        const { slice, swept, few, turns } = selectBlocks({ rows, of, k: Math.ceil(of / 64) }, H100);
        expect(slice * 16).toBeGreaterThanOrEqual(of);
        if (!few) expect(swept).toBeGreaterThanOrEqual(slice);
        expect(turns).toBeGreaterThanOrEqual(1);
      }),
      { seed: 42 },
    );
  });
});
