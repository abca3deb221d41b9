/** What attention takes along is fitted on the difference of two sites. */
import { expect, it } from 'vitest';
import { attendOf } from '../../sim/timing/cost-cases.ts';
import { measuredNs, type SiteSamples } from '../samples.ts';
import { addedToAttention } from './joined-law.ts';

const attend = attendOf({
  batch: 1,
  context: 320,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  elementBytes: 2,
});
const siteOf = (benchmark: string, operations: SiteSamples['operations'], ns: number): SiteSamples => ({
  benchmark,
  id: 'one',
  operations,
  restartNs: [ns, ns + 100],
  samplesNs: [],
});
const append = { kind: 'append', bytes: 4096, layer: 0, stream: 'compute', after: [] } as const;
const joined = siteOf('kernel/append.joined', [append, { ...attend, layer: 0 }], 8350);

it('is the rest of the same attention', () => {
  const others = [
    siteOf('attend', [{ ...attend, contextTokens: 321 }], 1),
    siteOf('attend', [attend], 7950),
    joined,
  ];
  const added = addedToAttention(joined, others);
  expect(measuredNs(added)).toBe(400);
  expect(added.operations).toEqual([{ ...append, isTakenAlong: true }]);
});

it('is never nothing, and the whole site where attention alone was not measured', () => {
  expect(measuredNs(addedToAttention(joined, [siteOf('attend', [attend], 9000)]))).toBeGreaterThan(0);
  expect(addedToAttention(joined, [joined])).toBe(joined);
});
