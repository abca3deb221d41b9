/** Which appends attention takes along, and that a stack with a law of it prices them by that law. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import type { AppendOperation, AttendOperation, Operation } from '../program/operation.ts';
import { costOf, resolveMachine } from './cost.ts';
import { attendOf } from './cost-cases.ts';
import { withTakenAlong } from './taken-along.ts';

const append: AppendOperation = { kind: 'append', bytes: 4096, layer: 0, stream: 'compute', after: [] };
const attend: AttendOperation = {
  ...attendOf({ batch: 1, context: 1024, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 }),
  layer: 0,
};
const spill: Operation = {
  kind: 'spill',
  from: 'hbm',
  to: 'dram',
  rows: 1,
  rowBytes: 4096,
  mode: 'dma',
  layer: 0,
  stream: 'd2h',
  after: [],
};
const taken = (operations: readonly Operation[], firstId?: number) =>
  withTakenAlong(operations, firstId).map((one) => one.kind === 'append' && one.isTakenAlong === true);
const coded = (share: number) => ({ coded: [{ codec: 'int4', bytes: 1, share, decodeFlops: 0 }] });

describe('appends that attention takes along', () => {
  it.each([
    ['right before it', [append, attend], true],
    ['of a layer of its own', [append, { ...attend, layer: 1 }], false],
    ['with scores between', [append, { ...spill, stream: 'compute' as const }, attend], false],
    ['that the CPU attends to', [append, { ...attend, where: 'cpu' as const }], false],
    ['beside coded tokens', [append, { ...attend, ...coded(0.9) }], true],
    ['where all tokens are coded', [append, { ...attend, ...coded(1) }], false],
    ['that a copy waits for', [append, attend, { ...spill, after: [0] }], false],
    ['whose attention waits for a copy', [spill, append, { ...attend, after: [0] }], false],
    ['that wait for the same copy', [spill, { ...append, after: [0] }, { ...attend, after: [0, 1] }], true],
  ] as const)('%s', (_, operations, want) => {
    expect(taken(operations).includes(true)).toBe(want);
  });
  it('counts ids from the first', () => {
    expect(taken([append, { ...attend, after: [7] }], 7)).toEqual([true, false]);
    expect(taken([append, { ...attend, after: [6] }], 7)).toEqual([false, false]);
  });
  it('costs what the stack has measured of it, or a kernel of its own', () => {
    const machine = resolveMachine(loadProfile('h100-sxm'), loadStack('flashinfer-graphs'));
    const [marked] = withTakenAlong([append, attend]);
    const own = costOf(append, machine);
    expect(costOf(marked, machine)).toEqual(own);
    const law = {
      startNs: 100,
      rowNs: 0,
      rampNs: 0,
      rampBytes: 1,
      rateRatio: 1,
      flopsRatio: 1,
      matrixRatio: 1,
      headNs: 0,
      inPasses: false,
      aloneRatio: 1,
      errorRatio: 0.1,
      anchored: true,
    };
    const measured = { ...machine, kernels: { ...machine.kernels, 'append.joined': law } };
    expect(costOf(append, measured)).toEqual(own);
    expect(costOf(marked, measured).fixedNs).toBeLessThan(own.fixedNs);
  });
});
