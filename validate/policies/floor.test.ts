/** A step's floor is what its busiest resource needs, and no less than what operations that wait for each other need. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { floorNsOf, stepFloor } from './floor.ts';

const machine = resolveMachine(loadProfile('h100-sxm'), loadStack('kvtier-kernels'));
const common = { layer: 0, after: [] } as const;
const fetch = (rows: number): Operation => ({
  ...common,
  kind: 'fetch',
  from: 'dram',
  to: 'hbm',
  rows,
  rowBytes: 4096,
  mode: 'dma',
  stream: 'h2d',
});
const score = (hbm: number, matrixFlops = 0): Operation => ({
  ...common,
  kind: 'score',
  index: 'centroids',
  readBytes: { hbm },
  writeBytes: {},
  flops: 0,
  matrixFlops,
  kernels: 3,
  where: 'gpu',
  stream: 'compute',
});

describe('the floor of a step', () => {
  it('is the busiest resource alone, and adds up over its operations', () => {
    const link = (1000 * 4096) / machine.link.h2d.bytesPerNs;
    expect(floorNsOf([fetch(1000)], machine)).toBeCloseTo(link, 6);
    expect(floorNsOf([fetch(1000), fetch(1000), score(4096)], machine)).toBeCloseTo(2 * link, 6);
    expect(stepFloor([fetch(1000), score(4096)], machine, 2).bound).toBe('h2d');
  });

  it('adds up what waits for each other, and not what may run at once', () => {
    const link = floorNsOf([fetch(1000)], machine);
    const bytes = link * machine.hbm.readBytesPerNs;
    const apart = stepFloor([score(bytes), fetch(1000)], machine, 2);
    expect(apart.floorNs).toBeCloseTo(link, 6);
    const waiting = stepFloor([score(bytes), { ...fetch(1000), after: [0] }], machine, 2);
    expect(waiting.floorNs).toBeCloseTo(2 * link, 6);
    expect(waiting.busiestNs).toBeCloseTo(link, 6);
    const inOrder = stepFloor([score(bytes), fetch(1000), score(bytes)], machine, 3);
    expect(inOrder.floorNs).toBeCloseTo(2 * link, 6);
  });

  it('counts what host threads read and write to pack rows', () => {
    const packed: Operation = { ...fetch(1000), mode: 'cpu-gather' } as Operation;
    const hostNs = (2 * 1000 * 4096) / machine.cpu.readBytesPerNs;
    expect(floorNsOf([packed], machine)).toBeCloseTo(Math.max(hostNs, floorNsOf([fetch(1000)], machine)), 6);
  });

  it('knows arithmetic from bytes, and states launches apart', () => {
    const { floorNs, bound, launchNs } = stepFloor([score(1, 1e12)], machine, 7);
    expect(bound).toBe('matrix');
    expect(floorNs).toBeCloseTo(1e12 / machine.flopsPerNs.bf16, 3);
    expect(launchNs).toBeCloseTo(7 * machine.launch.kernelNs, 9);
  });
});
