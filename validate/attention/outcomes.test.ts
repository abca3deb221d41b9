/** Outcomes and their residuals, on synthetic traces and on a held-out real prompt. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { createSyntheticTrace, type SyntheticTrace } from '../../traces/attention/synthetic.ts';
import { chooseLayers, measureFidelity } from './fidelity.ts';
import { outcomeTable, statisticTable, summaryRow } from './fidelity-report.ts';
import { keyGeometry } from './key-geometry.ts';
import { measureOutcomes, type OutcomeCell, outcomePolicies } from './outcomes.ts';
import { compareOutcomes, kendallTau } from './residuals.ts';

const make = (seed: number): SyntheticTrace =>
  createSyntheticTrace({
    preset: 'smollm2-135m',
    promptTokens: 1500,
    steps: 8,
    seed,
    recordedLayers: [5, 20],
  });
const measure = (seed: number): readonly OutcomeCell[] =>
  measureOutcomes({
    trace: make(seed),
    layers: [5, 20],
    kvHeads: [0, 1, 2],
    steps: 8,
    everySteps: 4,
    budgets: [128, 512],
  });

describe('outcomes', () => {
  const cells = measure(1);

  it('has a cell a policy and budget, in order', () => {
    expect(cells.map(({ policy, budgetTokens }) => [policy, budgetTokens])).toEqual(
      outcomePolicies.flatMap((policy) => [
        [policy, 128],
        [policy, 512],
      ]),
    );
  });

  it('recalls more with more tokens', () => {
    for (let i = 0; i < cells.length; i += 2) {
      expect(cells[i + 1].massRecall).toBeGreaterThan(cells[i].massRecall);
      expect(cells[i + 1].kvBytes).toBeGreaterThan(cells[i].kvBytes);
      expect(cells[i].layerRecall).toHaveLength(2);
    }
  });

  it('counts link bytes only where KV lies in DRAM', () => {
    for (const { policy, linkBytes } of cells)
      expect(linkBytes > 0).toBe(['quest', 'ttkv', 'pariskv'].includes(policy));
  });

  it('is at no distance from itself, and at some from another seed', () => {
    expect(compareOutcomes(cells, cells)).toMatchObject({
      massRecallPoints: 0,
      linkBytesRatio: 0,
      tauByBudget: 1,
      tauOverall: 1,
    });
    const other = compareOutcomes(cells, measure(2));
    expect(other.massRecallPoints).toBeGreaterThan(0);
    expect(other.layerRecallPoints).toBeGreaterThanOrEqual(other.massRecallPoints);
  });
});

describe('kendallTau', () => {
  it.each([
    [[1, 2, 3], [10, 20, 30], 0, 1],
    [[1, 2, 3], [3, 2, 1], 0, -1],
    [[1, 2, 3, 4], [1, 2, 4, 3], 0, 4 / 6],
    [[1, 1.01, 3], [1.01, 1, 3], 0.1, 1],
    [[1, 1], [2, 2], 0, 1],
  ])('of %j and %j with ties below %d is %d', (a, b, tie, tau) => {
    expect(kendallTau(a, b, tie)).toBeCloseTo(tau, 12);
  });
});

describe('key geometry', () => {
  it('finds the mass of pages better by bounds or means than by chance', () => {
    const geometry = keyGeometry(make(1), 20, 1, [0, 4]);
    expect(geometry.boundRecall).toBeGreaterThan(0.5);
    expect(geometry.meanRecall).toBeGreaterThan(0.2);
    expect(geometry.boundRecall).toBeLessThanOrEqual(1);
    expect(geometry.effectiveRank).toBeGreaterThan(5);
    expect(geometry.effectiveRank).toBeLessThanOrEqual(64);
    expect(geometry.correlation[0]).toBeGreaterThan(geometry.correlation[2]);
  });
});

describe('a prompt that no preset was fitted on', () => {
  const sample = '../../traces/samples/attention/qwen2.5-coder-0.5b-long-generation-32k.safetensors';
  const file = openAttentionFile(fileURLToPath(new URL(sample, import.meta.url)));
  const fidelity = measureFidelity(file, {
    preset: 'qwen2.5-0.5b',
    layers: 1,
    everySteps: 32,
    budgets: [256, 1024],
  });

  it('meets the policies much as its synthetic counterpart does', () => {
    // One layer alone is less sure than the average that the docs report.
    expect(fidelity.residuals.massRecallPoints).toBeLessThan(15);
    expect(fidelity.residuals.topkRecallPoints).toBeLessThan(12);
    expect(fidelity.residuals.linkBytesRatio).toBeLessThan(0.2);
  });

  it('is told in tables', () => {
    expect(outcomeTable(fidelity).split('\n')).toHaveLength(2 + fidelity.real.length);
    expect(summaryRow('prompt', fidelity)).toMatch(/^\| prompt \| \d+\.\d \|/);
    expect(statisticTable([fidelity], ['prompt']).split('\n').length).toBeGreaterThan(20);
  });

  it('takes layers from the middle of equal parts', () => {
    expect(chooseLayers([3, 5, 7, 9], 2)).toEqual([5, 9]);
    expect(chooseLayers([3, 5], 6)).toEqual([3, 5]);
  });
});
