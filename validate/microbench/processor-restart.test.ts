/** Sites of a processor lie apart in blocks, and what counts of their passes is what lies between the ends of two. */
import { describe, expect, it } from 'vitest';
import type { Backend } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';
import { openReference } from '../../kernels/reference.ts';
import { AREA_NAMES } from '../execute/memory.ts';
import { blocksOf, sizesOfBlocks } from './blocks.ts';
import { timeColdPasses } from './cold-passes.ts';
import { sizesOf } from './memory-groups.ts';
import { runProcessorRestart } from './processor-restart.ts';
import { boundsOf, sitesOf } from './run.ts';
import { keyOf } from './visits.ts';

const backend = openReference();
const bounds = { ...boundsOf(backend, { hbmBytes: 2 ** 22, dramBytes: 2 ** 22 }), l2Bytes: 1 };
const { sites } = sitesOf(bounds);

describe('blocks', () => {
  it('hold each site that fits once, beside the others', () => {
    const sized = sites.map((one) => ({ one, sizes: sizesOf(one.site) }));
    const blocks = blocksOf(sized, bounds);
    const placed = blocks.flatMap((block) => block.sites);
    expect(new Set(placed.map(({ one }) => keyOf(one))).size).toBe(placed.length);
    expect(placed.length).toBeGreaterThan(sites.length / 2);
    const largest = sizesOfBlocks(blocks);
    for (const { sites: some, sizes } of blocks)
      for (const name of AREA_NAMES) {
        expect(sizes[name]).toBeLessThanOrEqual(largest[name]);
        some.forEach(({ one, base }, at) => {
          const end = some[at + 1]?.base[name] ?? sizes[name];
          expect(base[name] + sizesOf(one.site)[name]).toBeLessThanOrEqual(end);
        });
      }
  });
});

describe('passes', () => {
  const call = (after: readonly number[]): Call => ({
    kernel: 'empty',
    stream: 'compute',
    after: [...after],
    refs: {},
    ints: {},
  });
  const lists: (readonly Call[])[] = [];
  /** Each call of a list ends so many ns after the one before it. */
  const machine = (stepNs: number): Backend => {
    lists.length = 0;
    const run = async (calls: readonly Call[]) => {
      lists.push(calls);
      const endNs = Float64Array.from(calls, (_, at) => (at + 1) * stepNs);
      return await Promise.resolve({ totalNs: endNs.slice(-1), startNs: endNs, endNs, graph: false });
    };
    return Object.assign(openReference(), { run });
  };
  const pairs = [call([]), call([0]), call([1]), call([2]), call([3]), call([4]), call([5]), call([6])];

  it('count after one that wakes threads, as lists of their own', async () => {
    expect(await timeColdPasses(machine(10), pairs, 4, 1e9)).toEqual([20, 20]);
    expect(lists.map((list) => list.map(({ after }) => after))).toEqual([
      [[], [0]],
      [[], [0], [1], [2], [3], [4]],
    ]);
  });

  it('are as few as their time allows, one at least', async () => {
    expect(await timeColdPasses(machine(4e6), pairs, 4, 1e9)).toEqual([8e6, 8e6, 8e6]);
    expect(await timeColdPasses(machine(10), pairs, 4, 0)).toEqual([20]);
    expect(lists).toHaveLength(1);
  });
});

describe('a restart of a processor', () => {
  it('has times of every site, however little time there is', async () => {
    const some = sites.filter(
      ({ benchmark, site: { id } }) => benchmark === 'launch' || id === '32 x 2' || id === '2 x 17',
    );
    const shares: number[] = [];
    for (const limitMs of [0, Infinity]) {
      const { samplesNs } = await runProcessorRestart(
        backend,
        some,
        bounds,
        1,
        (share) => shares.push(share),
        limitMs,
      );
      expect(Object.keys(samplesNs).sort()).toEqual(some.map(keyOf).sort());
      expect(shares.at(-1)).toBe(1);
    }
  });
});
