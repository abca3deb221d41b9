/** A machine resolved in part, while a fit moves numbers, is the machine that they describe. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { put, valueAt } from '../overlay.ts';
import { movingMachine } from './moving-machine.ts';

const STARTS = {
  accelerator: ['hardware.accelerator.gather.rateRatio', 'hardware.accelerator.gather.startNs'],
  link: ['hardware.link.h2dBytesPerNs', 'hardware.link.dma.perCallNs'],
  kernel: ['stack.kernels[score.some].startNs', 'stack.kernels[score.some].rateRatio'],
  'host kernel': ['stack.hostKernels[score].startNs'],
  'profile and kernel': ['hardware.host.cpu.rowNs', 'stack.kernels[score].rateRatio'],
};

const law = (value: number) => ({ value, status: 'measured', source: 'a test', date: '2026-01-01' });
const kernel = () =>
  Object.fromEntries(
    ['startNs', 'rampNs', 'rampBytes', 'rateRatio', 'flopsRatio', 'errorRatio'].map((name) => [
      name,
      law(0.5),
    ]),
  );

const described = () => {
  const description = structuredClone({ hardware: loadProfile('h100-sxm'), stack: loadStack() });
  Object.assign(description.stack, {
    kernels: { score: kernel(), 'score.some': kernel() },
    hostKernels: { score: kernel(), attend: kernel() },
    utilisation: { score: { axes: [{ of: 'bytes', at: [1, 1024] }], shares: [0.5, 1], ...law(1) } },
  });
  return description;
};

describe('movingMachine', () => {
  it.each(Object.entries(STARTS))('moves numbers of the %s', (_, paths) => {
    const description = described();
    const before = resolveMachine(description.hardware, description.stack);
    const moving = movingMachine(description, paths);
    for (const factor of [0.5, 0.9]) {
      for (const path of paths)
        put(description, path, law(factor * (valueAt(description, path) ?? Number.NaN)));
      const now = resolveMachine(description.hardware, description.stack);
      expect(now).not.toEqual(before);
      expect(moving()).toEqual(now);
    }
  });
});
