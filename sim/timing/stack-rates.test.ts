/** What a stack's attention reaches of a profile's: a share where the profile's kernel needs what the stack's has not. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { resolveMachine } from './cost.ts';

const machineOf = (hardware: string, stack: string) =>
  resolveMachine(loadProfile(hardware), loadStack(stack));

describe('attention of a prompt', () => {
  const rateOf = (hardware: string, stack: string): number =>
    machineOf(hardware, stack).prefillAttention.maxFlopsPerNs;

  it('takes a share of a rate that needs warp groups, by kernels for single warps', () => {
    const share = rateOf('h100-sxm', 'pytorch-eager') / rateOf('h100-sxm', 'flashinfer-graphs');
    expect(share).toBeCloseTo(0.45, 10);
  });

  it('reaches the rate itself where no kernel has warp groups', () => {
    for (const hardware of ['a100-80-sxm', 'l40s', 'rtx-4090', 'rtx-pro-6000'])
      expect(rateOf(hardware, 'pytorch-eager')).toBe(rateOf(hardware, 'flashinfer-graphs'));
  });
});

describe('attention of a step', () => {
  const rateOf = (hardware: string, stack: string): number =>
    machineOf(hardware, stack).decodeAttention.bytesPerNs;

  it('is as fast as the slower of both kernels, each a share of the streaming rate', () => {
    expect(rateOf('h100-sxm', 'pytorch-eager')).toBeLessThan(rateOf('h100-sxm', 'flashinfer-graphs'));
    expect(rateOf('l40s', 'pytorch-eager')).toBe(rateOf('l40s', 'flashinfer-graphs'));
  });
});
