/** Counting under a profiler, as far as it goes without one: a script stands in for it. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { SimError } from '../../sim/error.ts';
import { root } from '../../test/scan.ts';
import { writeWorkloads } from '../policies/pack.ts';
import { METRICS, readCounters } from '../traffic/counters.ts';
import { countedPlaces, countMachine, joinCounts } from './count.ts';
import { readPlan, workloadsFile } from './plan.ts';

const plan = readPlan(join(root, 'validate/evidence'));
const { cases } = readCounters(join(root, 'validate/evidence/h100.counters.json.gz'));
const [first, second] = cases.map(({ prepared }) => prepared);
const line = (cells: readonly (string | number)[]): string => `"${cells.join('","')}"`;
const tableOf = (ranges: number): string =>
  [
    line(['ID', ...Object.values(METRICS)]),
    line(['', 'byte', 'byte', 'byte', 'byte', 'sector']),
    ...Array.from({ length: ranges }, (_, at) => line([at, 10 + at, 20, 30, 40, 50])),
  ].join('\n');

describe('counts of ranges', () => {
  it('belong to the steps that were ranges, once each', () => {
    const said = '[0,1]\nwarning\n[1,0]\n[0,1]\n[1,0]\n';
    expect(countedPlaces(said)).toEqual([
      [0, 1],
      [1, 0],
    ]);
    const joined = joinCounts(said, tableOf(2), 'a.csv', [[first, second], [first]]);
    expect(joined.map(({ prepared }) => prepared)).toEqual([second, first]);
    expect(joined.map(({ runs }) => runs[0].hbmReadBytes)).toEqual([10, 11]);
  });

  it.each([
    ['fewer', '[0,0]\n[0,1]\n', 1],
    ['more', '[0,0]\n', 2],
    ['none', '', 0],
  ])('are refused where there are %s than steps', (_, said, ranges) => {
    expect(() => joinCounts(said, tableOf(ranges), 'a.csv', [[first, second]])).toThrow(SimError);
  });
});

describe('record count', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-count-'));
  const options = { profiler: join(folder, 'ncu'), date: '2026-01-01' };
  const count = async (): Promise<void> => await countMachine(plan, 'h100', folder, options, () => undefined);
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('asks for the steps, then for the profiler, in one line each', async () => {
    await expect(count()).rejects.toThrow('`record prepare FOLDER --sets counted` writes it');
    for (const file of Object.keys(plan.sets.counted.files))
      writeWorkloads(join(folder, workloadsFile('counted', file)), [first]);
    await expect(count()).rejects.toThrow(/ncu: .*ENOENT/);
    writeFileSync(options.profiler, '#!/bin/sh\nexit 3\n');
    chmodSync(options.profiler, 0o755);
    await expect(count()).rejects.toThrow('ended by exit 3');
  });
});
