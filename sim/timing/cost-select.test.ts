/** Keys that the last cache does not keep are read again by each sweep. */
import { expect, test } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { costOf, resolveMachine } from './cost.ts';
import { soloNs } from './operation-cost.ts';

const stated = { status: 'measured', source: 'a test', date: '2026-11' } as const;
const profile = loadProfile('h100-sxm');
const stack = loadStack('kvtier-kernels');
const clusters = { values: [132, 66, 44, 32], ...stated };

const machineWith = (select: object) =>
  resolveMachine(
    {
      ...profile,
      accelerator: { ...profile.accelerator, select: { ...profile.accelerator.select, ...select } },
    },
    { ...stack, select: { ...stack.select, clusters } },
  );

const nsOf = (of: number, k: number, select: object): number =>
  soloNs(
    costOf({ kind: 'select', rows: 128, of, k, layer: 0, stream: 'compute', after: [] }, machineWith(select)),
  );

test('selections beyond what the last cache keeps read their keys again', () => {
  const keptRatio = { value: 0.4, ...stated };
  const { passes } = profile.accelerator.select;
  const keptBytes = 0.4 * profile.accelerator.l2.capacityBytes.value;
  const added = (of: number, k: number) => nsOf(of, k, { keptRatio }) - nsOf(of, k, {});
  // 128 rows of 40,960 scores fill it; of 81,920 lie beyond by half.
  expect(added(40_960, 10_240)).toBeCloseTo(0, 6);
  const againNs = (128 * 81_920 * 4 - keptBytes) / profile.accelerator.hbm.achievedBytesPerNs.value;
  expect(added(81_920, 20_480)).toBeCloseTo((1 + passes.value) * againNs, 3);
  // Few of many are found by maxima, and read once more for the list.
  expect(added(81_920, 1280)).toBeCloseTo(againNs, 3);
});
