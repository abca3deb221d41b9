/** Copies of one stream, one behind the other: what of their begin hides, whatever the numbers of a profile. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { ProgramBuilder } from '../program/builder.ts';
import type { TransferMode } from '../program/operation.ts';
import { costOf, type Machine, resolveMachine } from './cost.ts';
import { Interpreter } from './interpreter.ts';
import { soloNs } from './operation-cost.ts';

const profile = loadProfile('h100-sxm');
const stack = loadStack('flashinfer-graphs');
const recorded = resolveMachine(profile, { ...stack, launch: 'graph' });
const launched = resolveMachine(profile, { ...stack, launch: 'graph', launchesAhead: true });

/** Time of `count` copies of rows one behind the other, ns, and of one alone. */
const timesNs = (machine: Machine, mode: TransferMode, rows: number, rowBytes: number, count: number) => {
  const builder = new ProgramBuilder();
  const copy = { kind: 'fetch', from: 'dram', to: 'hbm', rows, rowBytes, mode, stream: 'h2d' } as const;
  for (let i = 0; i < count; i++) builder.add({ ...copy, after: [] });
  const interpreter = new Interpreter(machine, (operation) => costOf(operation, machine));
  interpreter.submit(builder.take(), 0);
  interpreter.finish();
  const all = interpreter.timeline().endNs.reduce((a, b) => Math.max(a, b), 0);
  return { all, alone: soloNs(costOf({ ...copy, layer: 0, after: [] }, machine)) };
};

const rowsOf = fc.integer({ min: 1, max: 4096 });
const bytesOf = fc.integer({ min: 64, max: 1 << 18 });

describe('copies behind others', () => {
  it('have their threads told anew where those pack rows', () => {
    fc.assert(
      fc.property(rowsOf, bytesOf, (rows, rowBytes) => {
        const { all, alone } = timesNs(recorded, 'cpu-gather', rows, rowBytes, 3);
        expect(all).toBeGreaterThan(alone + 2 * recorded.cpu.startNs);
        expect(all).toBeLessThanOrEqual(3 * alone * (1 + 1e-9));
      }),
    );
  });

  it('take no longer than their bytes and a begin where rows were named meanwhile', () => {
    // Naming takes less than half as long as the bytes, so that the CPU is ahead from the second batch on.
    const allOf = (count: number) => timesNs(launched, 'dma-batch', 64, 1 << 20, count).all;
    const wireNs = (64 * 2 ** 20) / launched.link.h2d.copyBytesPerNs;
    expect(allOf(4) - allOf(2)).toBeCloseTo(2 * (wireNs + launched.link.latencyNs), 3);
  });

  it('wait for the CPU where naming takes longer than their bytes', () => {
    fc.assert(
      fc.property(rowsOf, fc.integer({ min: 64, max: 4096 }), (rows, rowBytes) => {
        const { all, alone } = timesNs(launched, 'dma-batch', rows, rowBytes, 3);
        expect(all).toBeGreaterThan(3 * rows * launched.link.batchRowNs);
        expect(all).toBeLessThanOrEqual(4 * alone);
      }),
    );
  });
});
