/** A step's floor is what its busiest resource needs, whatever else the program does. */
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

  it('knows arithmetic from bytes, and states launches apart', () => {
    const { floorNs, bound, launchNs } = stepFloor([score(1, 1e12)], machine, 7);
    expect(bound).toBe('matrix');
    expect(floorNs).toBeCloseTo(1e12 / machine.flopsPerNs.bf16, 3);
    expect(launchNs).toBeCloseTo(7 * machine.launch.kernelNs, 9);
  });
});
