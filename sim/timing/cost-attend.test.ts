/** Attention over coded KV: each form by its own kernel, small pages by another one, and a time for every further form. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { costOf, resolveMachine } from './cost.ts';
import { attendOf } from './cost-cases.ts';
import { soloNs } from './operation-cost.ts';

const FORM_NS = 700;
const stated = { status: 'measured', source: 'a test', date: '2026-11' } as const;
const timeOf = (value: number) => ({ value, ...stated });
const law = (startNs: number) => ({
  startNs: timeOf(startNs),
  rateRatio: timeOf(0.8),
  flopsRatio: timeOf(0.5),
  errorRatio: timeOf(0.1),
});

const machineWith = (formNs: number) => {
  const profile = loadProfile('h100-sxm');
  const { accelerator } = profile;
  const stack = loadStack('kvtier-kernels');
  const kernels = { ...stack.kernels, 'attend.k8v4': law(4000), 'attend.k8v4.small': law(15_000) };
  return resolveMachine(
    {
      ...profile,
      accelerator: {
        ...accelerator,
        decodeAttention: { ...accelerator.decodeAttention, formNs: timeOf(formNs) },
      },
    },
    { ...stack, kernels },
  );
};

const raw = attendOf({ batch: 1, context: 512, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 });
const coded = (share: number) => ({
  ...raw,
  coded: [{ codec: 'k8v4', bytes: 800_000 * share, share, decodeFlops: 0 }],
});
const nsOf = (operation: Parameters<typeof costOf>[0], formNs = 0): number =>
  soloNs(costOf(operation, machineWith(formNs)));

describe('attention over coded KV', () => {
  it('in pages of no multiple of 32 tokens has a law of its own', () => {
    const one = coded(1);
    expect(nsOf({ ...one, pageTokens: 8 }) - nsOf({ ...one, pageTokens: 64 })).toBeCloseTo(11_000, 3);
    expect(nsOf({ ...one, pageTokens: 32 })).toBeCloseTo(nsOf(one), 6);
  });

  it('takes a time for each form after the first', () => {
    expect(nsOf(raw, FORM_NS)).toBeCloseTo(nsOf(raw), 6);
    expect(nsOf(coded(1), FORM_NS)).toBeCloseTo(nsOf(coded(1)), 6);
    expect(nsOf(coded(0.9), FORM_NS) - nsOf(coded(0.9))).toBeCloseTo(FORM_NS, 6);
  });
});
