/** Traffic of steps: what calls are said to touch, and what counters of whole steps confirm. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { catalog } from '../../kernels/calls.generated.ts';
import type { Call, KernelSpec } from '../../kernels/calls.ts';
import { createRandom } from '../../kernels/random.ts';
import { SimError } from '../../sim/error.ts';
import { root } from '../../test/scan.ts';
import { countersFile } from '../record/plan.ts';
import { METRICS, parseCounts, readCounters } from './counters.ts';
import { cacheOf, judgeCase, readJudgedCounters } from './judge.ts';
import { launchesOf } from './touched.ts';

const folder = join(root, 'validate/evidence');
const judged = readJudgedCounters(folder);
/** Below, whole pieces and what every launch reads besides are a larger share; the project promises nothing there. */
const LEAST_BYTES = 64e6;
const SLACK = 2e-4;

describe('counted steps', () => {
  for (const machine of new Set(judged.map((one) => one.machine))) {
    const { cases } = readCounters(join(folder, countersFile(machine)));
    const shape = cacheOf(folder, machine);
    it.each(
      cases.map((one) => ({ one, policy: one.prepared.workload.policy, batch: one.prepared.workload.batch })),
    )(
      `${machine}: $policy, batch $batch, is predicted no worse than recorded (else \`npm run evidence\` says so openly)`,
      ({ one }) => {
        const now = judgeCase(machine, one, shape);
        const { policy, context, batch } = now;
        const recorded = judged.find(
          (other) =>
            other.machine === machine &&
            other.policy === policy &&
            other.context === context &&
            other.batch === batch,
        );
        expect(Math.abs(now.hbm.errorRatio)).toBeLessThanOrEqual(
          Math.abs(recorded?.hbm.errorRatio ?? 0) + SLACK,
        );
        // What kernels read of host memory is what they ask for, to the sector; commands and waits are beside it.
        expect(Math.abs(now.host.counted - now.host.asked)).toBeLessThanOrEqual(65_536);
      },
      60_000,
    );
  }

  it('are within 3 % of HBM in the mean of those of 64 MB and more, and none is 4 % off', () => {
    const errors = judged
      .filter(({ hbm }) => hbm.counted.readBytes + hbm.counted.writtenBytes >= LEAST_BYTES)
      .map(({ hbm }) => Math.abs(hbm.errorRatio));
    expect(errors.reduce((sum, error) => sum + error, 0) / errors.length).toBeLessThan(0.03);
    expect(Math.max(...errors)).toBeLessThan(0.04);
  });

  it('have the bytes over the link that programs say, to 1 %, from 1 MB on', () => {
    for (const { link } of judged.filter(({ link: { programIn } }) => programIn >= 1e6))
      expect(Math.abs(link.countedIn / link.programIn - 1)).toBeLessThan(0.01);
  });
});

describe('what calls touch', () => {
  it.each(Object.values<KernelSpec>(catalog))('$name writes what its test compares', (spec) => {
    const random = createRandom(3);
    for (let at = 0; at < 6; at++)
      for (const { ref } of spec.randomCase(random).outputs) expect(spec.writes).toContain(ref);
    for (const ref of spec.writes) expect(spec.refs).toContain(ref);
  });

  const at = (buffer: number) => ({ buffer, offset: 0 });
  const runsOf = (call: Call, table: readonly number[]) =>
    launchesOf(call, () => Uint32Array.from(table)).flatMap((launch) =>
      launch.map(({ ref, isWrite, runs }) => {
        const list: number[][] = [];
        runs((offset, bytes) => list.push([offset, bytes]));
        return { buffer: ref.buffer, isWrite, list };
      }),
    );

  it('follows the rows that a gather is told', () => {
    const call: Call = {
      kernel: 'gather',
      stream: 'compute',
      after: [],
      refs: { source: at(0), index: at(1), target: at(2) },
      ints: { rows: 2, rowBytes: 96, sourceStride: 128, targetStride: 96, mode: 0, units: 0 },
    };
    expect(runsOf(call, [7, 3])).toEqual([
      { buffer: 1, isWrite: false, list: [[0, 8]] },
      {
        buffer: 0,
        isWrite: false,
        list: [
          [896, 96],
          [384, 96],
        ],
      },
      {
        buffer: 2,
        isWrite: true,
        list: [
          [0, 96],
          [96, 96],
        ],
      },
    ]);
  });

  it('goes through the passes of products one behind the other', () => {
    const call: Call = {
      kernel: 'pq-passes',
      stream: 'compute',
      after: [],
      refs: { queries: at(0), books: at(1), codes: at(2), passes: at(3), scores: at(4) },
      ints: {
        rows: 1,
        group: 2,
        count: 10,
        headDim: 8,
        subspaces: 2,
        centroids: 4,
        codeStride: 10,
        scoreStride: 10,
      },
    };
    const written = launchesOf(call, () => new Uint32Array()).map(
      (launch) => launch.filter(({ isWrite }) => isWrite).length,
    );
    expect(written).toEqual([0, 1, 1, 1, 1, 1]);
  });
});

describe('a table of counters', () => {
  const names = Object.values(METRICS);
  const line = (cells: readonly string[]): string => `"${cells.join('","')}"`;
  const text = (units: readonly string[], cells: readonly string[]): string =>
    ['==PROF== Connected', line(['ID', ...names]), line(['', ...units]), line(['0', ...cells])].join('\n');

  it('is read with its units', () => {
    const units = ['Mbyte', 'byte', 'Kbyte', 'byte', 'sector'];
    expect(parseCounts(text(units, ['1.5', '2,000', '3', '4', '5']), 'a.csv')).toEqual([
      {
        hbmReadBytes: 1.5e6,
        hbmWrittenBytes: 2000,
        linkReadBytes: 3000,
        linkWrittenBytes: 4,
        hostReadSectors: 5,
      },
    ]);
  });

  it.each([
    ['no table', 'ncu: no permission', 'expected a table of counters'],
    ['a lacking counter', `${line(['ID', names[0]])}\n${line(['', 'byte'])}`, `no column ${names[1]}`],
    [
      'a unit',
      text(['furlong', 'byte', 'byte', 'byte', 'sector'], ['1', '1', '1', '1', '1']),
      'unknown unit furlong',
    ],
    ['no number', text(['byte', 'byte', 'byte', 'byte', 'sector'], ['n/a', '1', '1', '1', '1']), 'found n/a'],
  ])('with %s costs one line', (_, given, message) => {
    expect(() => parseCounts(given, 'a.csv')).toThrow(SimError);
    expect(() => parseCounts(given, 'a.csv')).toThrow(message);
  });
});
