/** What does not fit is said tier by tier; a drive of unknown size is taken to be large enough. */
import { expect, test } from 'vitest';
import { shortfall } from './capacity.ts';

const of = (peakBytes: number) => ({ peakBytes, kvPeakBytes: peakBytes });
const residency = { hbm: of(10), dram: of(20), nvme: of(300) };

test('bytes missing by tier', () => {
  expect(shortfall(residency, { hbm: 10, dram: 20, nvme: 300 })).toEqual({});
  expect(shortfall(residency, { hbm: 8, dram: 20, nvme: 100 })).toEqual({ hbm: 2, nvme: 200 });
  expect(shortfall(residency, { hbm: 10, dram: 15 })).toEqual({ dram: 5 });
  expect(shortfall({ hbm: of(1), dram: of(0) }, { hbm: 10, dram: 10, nvme: 0 })).toEqual({});
});
