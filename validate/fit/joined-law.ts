/**
 * What new tokens cost that attention takes along (`append.joined`): some tenths of a microsecond, of which the law of
 * attention knows less than that. So its numbers are fitted on how much longer attention takes with them than without.
 */
import { isDeepStrictEqual } from 'node:util';
import { measuredNs, type SiteSamples } from '../samples.ts';

const JOINED = 'kernel/append.joined';
const PATH = 'stack.kernels[append.joined]';
/** Nothing is quicker than this, ns. */
const LEAST_NS = 50;

/** The append of a site, in what attention takes longer than in the site of attention alone; the site where there is none. */
export const addedToAttention = (site: SiteSamples, all: readonly SiteSamples[]): SiteSamples => {
  const [append, attend] = site.operations;
  if (append?.kind !== 'append') return site;
  const { layer: _, ...asked } = attend;
  const alone = all.find(({ benchmark, operations: [operation] }) => {
    if (benchmark !== 'attend') return false;
    const { layer: __, ...own } = operation;
    return isDeepStrictEqual(own, asked);
  });
  if (alone === undefined) return site;
  const addedNs = Math.max(LEAST_NS, measuredNs(site) - measuredNs(alone));
  return { ...site, operations: [{ ...append, isTakenAlong: true }], restartNs: [addedNs] };
};

export const JOINED_LAW = {
  name: 'kernel append.joined',
  parameters: ['startNs', 'rateRatio'].map((name) => `${PATH}.${name}`),
  taken: { [`${PATH}.flopsRatio`]: 1, [`${PATH}.rampNs`]: 0 },
  errorPath: `${PATH}.errorRatio`,
  shows: ({ benchmark }: SiteSamples): boolean => benchmark === JOINED,
  instead: addedToAttention,
};
