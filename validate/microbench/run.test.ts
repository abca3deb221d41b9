/** Every microbenchmark builds calls that its kernels take, predicts what it times, and is put together as samples. */
import { describe, expect, it } from 'vitest';
import type { Backend } from '../../kernels/backend.ts';
import { specOf } from '../../kernels/check-call.ts';
import { openReference } from '../../kernels/reference.ts';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { AREA_NAMES, AREAS, Layout } from '../execute/memory.ts';
import { predictNs } from '../predict-site.ts';
import { memoryGroups } from './memory-groups.ts';
import { ascendingRows, scatteredRows } from './microbench.ts';
import { boundsOf, runRestart, samplesOf, sitesOf } from './run.ts';
import { keyOf, type NamedSite } from './visits.ts';

const backend = openReference();
const bounds = { ...boundsOf(backend, { hbmBytes: 2 ** 22, dramBytes: 2 ** 22 }), l2Bytes: 1 };
const { sites, skipped } = sitesOf(bounds);
const unbounded = { hbmBytes: Infinity, dramBytes: Infinity };
const grouped = (some: readonly NamedSite[]) => memoryGroups(some, unbounded);
const machine = resolveMachine(loadProfile('h100-sxm'), loadStack());

describe('sites', () => {
  it('exist for every benchmark, each with a name of its own', () => {
    expect(skipped).toEqual([]);
    expect(new Set(sites.map(({ benchmark }) => benchmark)).size).toBeGreaterThanOrEqual(15);
    expect(new Set(sites.map(keyOf)).size).toBe(sites.length);
    const byLaw = sites.filter(({ site: { law } }) => law !== undefined);
    expect(byLaw.length).toBeGreaterThan(0);
    for (const { benchmark, site } of byLaw) expect(benchmark).toBe(site.law);
  });

  it('share memory in groups that the bounds hold whole', () => {
    const most = { hbmBytes: 2 ** 20, dramBytes: 2 ** 20 };
    const groups = memoryGroups(sites, most);
    const fitting = groups.flatMap(({ sites: some }) => some);
    expect(fitting.length).toBeGreaterThan(0);
    expect(fitting.length).toBeLessThan(sites.length);
    expect(new Set(fitting).size).toBe(fitting.length);
    for (const { sites: some, sizes } of groups) {
      const taken = { hbm: 0, dram: 0, pageable: 0, nvme: 0 };
      for (const name of AREA_NAMES) taken[AREAS[name].tier] += sizes[name];
      expect(taken.hbm).toBeLessThanOrEqual(most.hbmBytes);
      expect(taken.dram + taken.pageable).toBeLessThanOrEqual(most.dramBytes);
      for (const { site } of some) {
        const layout = new Layout();
        site.build(layout);
        for (const name of AREA_NAMES) expect(layout.sizes[name]).toBeLessThanOrEqual(sizes[name]);
      }
    }
    const [all, ...others] = grouped(sites);
    expect(others).toEqual([]);
    expect(new Set(all.sites)).toEqual(new Set(sites));
  });

  it.each([...new Set(sites.map(({ benchmark }) => benchmark))])(
    'of %s have their kernels’ arguments and a time',
    (name) => {
      for (const { site } of sites.filter(({ benchmark }) => benchmark === name)) {
        const [{ kernel, refs, ints }] = site.build(new Layout());
        const spec = specOf(kernel);
        expect(Object.keys(ints).sort()).toEqual([...spec.ints].sort());
        for (const ref of Object.keys(refs)) expect(spec.refs).toContain(ref);
        if (site.operations.length === 0) expect(site.reading).toBeDefined();
        else expect(predictNs(site.operations, machine)).toBeGreaterThan(0);
      }
    },
  );
});

describe('a restart', () => {
  it('times sites in any order and becomes samples', async () => {
    const some = sites.filter(({ benchmark, site: { id } }) => benchmark === 'launch' || id === '32 x 2');
    const shares: number[] = [];
    const restarts = [
      await runRestart(backend, grouped(some), 1, (share) => shares.push(share)),
      await runRestart(backend, grouped(some), 2),
    ];
    expect(shares.at(-1)).toBe(1);
    const samples = samplesOf(backend, some, restarts, '2026-11-22');
    expect(samples.sites.length).toBe(some.length);
    for (const { restartNs } of samples.sites) expect(restartNs.length).toBe(2);
  });
});

describe('visits', () => {
  const one = (name: string) => sites.filter(({ benchmark }) => benchmark === name).slice(0, 1);
  /** Each visit probes, then repeats. */
  const timesNs = [5e6, 1e6, 3e6, 2e6, 4e6, 4e6];
  let runs = 0;
  const machine = (): Backend => {
    runs = 0;
    const run = async () =>
      await Promise.resolve({ totalNs: [timesNs[runs++]], startNs: null, endNs: null, graph: true });
    return Object.assign(openReference(), { name: 'cuda' as const, run });
  };

  it('of a site of the host are two, and the quieter counts', async () => {
    const { samplesNs } = await runRestart(machine(), grouped(one('pageable')), 1);
    expect(runs).toBe(4);
    expect(Object.values(samplesNs)).toEqual([[1e6 / one('pageable')[0].site.passes]]);
    await runRestart(machine(), grouped([...one('pageable'), ...one('select')]), 1);
    expect(runs).toBe(6);
  });

  it('are not repeated when the time is used up', async () => {
    const { samplesNs } = await runRestart(machine(), grouped(one('pageable')), 1, undefined, 0);
    expect(runs).toBe(1);
    expect(Object.values(samplesNs)).toEqual([[5e6 / one('pageable')[0].site.passes]]);
  });
});

describe('ascendingRows', () => {
  it('ascend below their bound, none twice, others with another seed', () => {
    for (const [rows, of] of [
      [1, 1],
      [7, 7],
      [64, 1536],
      [100, 257],
    ]) {
      const drawn = ascendingRows(rows, of, 3);
      expect(drawn.every((row, i) => row < of && (i === 0 || row > drawn[i - 1]))).toBe(true);
    }
    expect(ascendingRows(64, 1536, 1)).not.toEqual(ascendingRows(64, 1536, 2));
  });
});

describe('scatteredRows', () => {
  it('repeats no row before all were there', () => {
    for (const of of [1, 2, 7, 64, 1000]) {
      const rows = scatteredRows(2 * of, of, 3);
      expect(new Set(rows.subarray(0, of)).size).toBe(of);
      expect([...rows.subarray(of)]).toEqual([...rows.subarray(0, of)]);
    }
  });

  it('repeats sites less where time is short, and misses none', async () => {
    const some = sites.filter(({ benchmark }) => benchmark === 'select').slice(0, 3);
    const { samplesNs } = await runRestart(backend, grouped(some), 1, undefined, 0);
    expect(Object.keys(samplesNs).sort()).toEqual(some.map(keyOf).sort());
    for (const times of Object.values(samplesNs)) expect(times).toHaveLength(1);
  });

  it('are fewer on a processor than on a GPU, the same ones each time', () => {
    const most = 2 ** 30;
    const on = (name: 'cpu' | 'cuda') =>
      sitesOf({ ...bounds, backend: name, hbmBytes: most, dramBytes: most }).sites.map(keyOf);
    expect(on('cpu')).toEqual(on('cpu'));
    expect(on('cpu').length).toBeLessThan(on('cuda').length / 1.5);
    expect(new Set(on('cuda')).size).toBe(on('cuda').length);
    const known = new Set(on('cuda'));
    expect(on('cpu').filter((key) => key.startsWith('select') && !known.has(key))).toEqual([]);
  });
});
