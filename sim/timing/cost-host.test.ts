/** Host threads: what must hold of their laws, whatever the numbers of a profile. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import type { Stack } from '../hardware/stack-schema.ts';
import type { Operation } from '../program/operation.ts';
import { costOf, resolveMachine } from './cost.ts';
import { scatteredRowsNs } from './cost-host.ts';
import { soloNs } from './operation-cost.ts';

const profile = loadProfile('h100-sxm');
const stack = loadStack('flashinfer-graphs');
const machineWith = (change: Partial<Stack>) => resolveMachine(profile, { ...stack, ...change });
const timeNs = (operation: Operation, machine = machineWith({})): number =>
  soloNs(costOf(operation, machine));

const quantity = (value: number) =>
  ({ value, status: 'measured', source: 'a test', date: '2026-11' }) as const;
const kernel = (startNs: number, rateRatio: number) => ({
  startNs: quantity(startNs),
  rateRatio: quantity(rateRatio),
  flopsRatio: quantity(1),
  errorRatio: quantity(0.1),
});

const onHost = { layer: 0, stream: 'cpu', after: [], where: 'cpu' } as const;
const attendOn = (tokens: number, headDim: number): Operation => ({
  ...onHost,
  kind: 'attend',
  sequences: 1,
  queries: 1,
  contextTokens: tokens,
  heads: 1,
  kvHeads: 1,
  headDim,
  readBytes: { dram: 4 * tokens * headDim },
  flops: 4 * tokens * headDim,
});
const scoreOn = (index: string, bytes: number): Operation => ({
  ...onHost,
  kind: 'score',
  index,
  readBytes: { dram: bytes },
  writeBytes: {},
  flops: 0,
  kernels: 1,
});
const gatherOn = (rows: number, rowBytes: number): Operation => ({
  kind: 'fetch',
  from: 'dram',
  to: 'hbm',
  rows,
  rowBytes,
  mode: 'cpu-gather',
  layer: 0,
  stream: 'h2d',
  after: [],
});

const countOf = fc.integer({ min: 1, max: 1 << 20 });
const dimOf = fc.constantFrom(64, 80, 128, 256);
const check = <T>(values: fc.Arbitrary<T>, law: (value: T) => void): void => {
  fc.assert(fc.property(values, law), { seed: 42 });
};

describe('host threads', () => {
  it('read scattered tokens no faster than bytes in a row, and take longer for more', () => {
    check(fc.tuple(countOf, dimOf), ([tokens, headDim]) => {
      const time = timeNs(attendOn(tokens, headDim));
      expect(time).toBeGreaterThanOrEqual(timeNs(scoreOn('any', 4 * tokens * headDim)) * (1 - 1e-12));
      expect(time).toBeLessThanOrEqual(timeNs(attendOn(2 * tokens, headDim)));
    });
  });

  it('look up a list in a time of its own, each thread one after the other', () => {
    const law = { ...kernel(1000, 1), rowNs: quantity(80) };
    const machine = machineWith({ hostKernels: { 'lsh-match': law } });
    const { threads, readBytesPerNs } = machine.cpu;
    const shape = { tables: 10, queries: 4 };
    const match = (rows: number): Operation => {
      const looked = { rows, call: { kernel: 'lsh-match', counts: { probes: 0 }, shape } };
      return { ...scoreOn('tables', 64), ...looked } as Operation;
    };
    check(fc.integer({ min: threads, max: 1 << 16 }), (rows) => {
      const addedNs = timeNs(match(2 * rows), machine) - timeNs(match(rows), machine);
      // Where each begins and ends is read.
      expect(addedNs).toBeCloseTo(40 * rows * (80 / threads + 8 / readBytesPerNs), 3);
    });
  });

  it('attend to more lists of the same tokens no sooner', () => {
    const machine = machineWith({ hostKernels: { attend: { ...kernel(1000, 1), rowNs: quantity(2000) } } });
    check(fc.tuple(fc.integer({ min: 16, max: 4096 }), dimOf), ([lists, headDim]) => {
      const one = attendOn(64 * lists, headDim);
      const apart = { ...one, contextTokens: 64 } as Operation;
      const added = (lists * 2000) / Math.min(machine.cpu.threads, lists) - 2000;
      expect(timeNs(apart, machine) - timeNs(one, machine)).toBeCloseTo(added, 3);
    });
  });

  it('hide the telling of work behind other work of theirs, and nothing else of its start', () => {
    const machine = machineWith({ hostKernels: { attend: kernel(17_000, 1), score: kernel(12_000, 1) } });
    const attended = costOf(attendOn(64, 128), machine);
    expect([attended.fixedNs, attended.toldNs]).toEqual([17_000, 12_000]);
    expect(costOf(scoreOn('any', 64), machine).toldNs).toBe(12_000);
  });

  it('share rows: fewer rows than threads leave some idle', () => {
    const machine = machineWith({});
    const { threads } = machine.cpu;
    expect(scatteredRowsNs(machine, 1, 4096)).toBeCloseTo(scatteredRowsNs(machine, threads, 4096), 9);
    expect(scatteredRowsNs(machine, 2 * threads, 4096)).toBeCloseTo(
      2 * scatteredRowsNs(machine, threads, 4096),
      9,
    );
  });

  it('follow the kernel that a stack has measured, by the most special name', () => {
    const hostKernels = { score: kernel(7000, 0.5), 'score.tables': kernel(9000, 1) };
    const measured = machineWith({ hostKernels });
    const small = (index: string): number => timeNs(scoreOn(index, 64), measured);
    expect(small('tables') - small('other')).toBeCloseTo(2000, 0);
    const large = 1 << 30;
    const ratio =
      (timeNs(scoreOn('other', large), measured) - 7000) /
      (timeNs(scoreOn('tables', large), measured) - 9000);
    expect(ratio).toBeCloseTo(2, 6);
  });
});

describe('rows gathered by the CPU', () => {
  const first = machineWith({ gathersFirst: true });
  const pieces = machineWith({ gatherPieces: { most: quantity(8), bytes: quantity(1 << 20) } });
  const free = machineWith({});

  it('come sooner in pieces than after all were packed, and never sooner than without a first piece', () => {
    check(fc.tuple(countOf, fc.integer({ min: 64, max: 1 << 16 })), ([rows, rowBytes]) => {
      const times = [free, pieces, first].map((machine) => timeNs(gatherOn(rows, rowBytes), machine));
      expect(times[0]).toBeLessThanOrEqual(times[1] * (1 + 1e-12));
      expect(times[1]).toBeLessThanOrEqual(times[2] * (1 + 1e-12));
    });
  });

  it('are packed first where they are less than a piece', () => {
    expect(timeNs(gatherOn(64, 256), pieces)).toBeCloseTo(timeNs(gatherOn(64, 256), first), 6);
    expect(timeNs(gatherOn(1 << 16, 4096), pieces)).toBeLessThan(
      0.8 * timeNs(gatherOn(1 << 16, 4096), first),
    );
  });
});
