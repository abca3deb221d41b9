/**
 * Laws of single kernels that policies run on the GPU, each from the sites of its name: time of a start, of bytes and
 * arithmetic, and of what its blocks share.
 */
import { smallPageLaw } from '../../sim/timing/cost-attend.ts';
import { LONG_ENCODE } from '../../sim/timing/cost-kernels.ts';
import { lookUpsOf } from '../../sim/timing/look-ups.ts';
import { REBUILDING } from '../../sim/timing/product-tiles.ts';
import { KERNEL_BINDERS } from '../execute/kernels/kernel-binders.ts';
import { codecOf } from '../microbench/microbench.ts';
import type { SiteSamples } from '../samples.ts';
import { JOINED_LAW } from './joined-law.ts';
import { LONG_CODED } from './kernel-tiles.ts';
import type { Law } from './law.ts';

/** Whether a site multiplies matrices beside streaming. */
const multipliesIn = ({ operations: [operation] }: SiteSamples): boolean =>
  (operation?.kind === 'score' && (operation.matrixFlops ?? 0) > 0) || operation?.kind === 'attend';

/** Benchmarks of kernels of their own; `kernel/NAME` shows the law of NAME. */
const KERNEL = 'kernel/';
const KERNEL_SIZES = [
  'rows',
  'candidates',
  'way',
  'slice',
  'chosenOf',
  'headDim',
  'queryRows',
  'turns',
  'bytes',
  'flopsPerByte',
  'matrixFlopsPerByte',
  'writeShare',
  'parts',
] as const;

/** Laws of single codecs, and of all with a dot behind. */
const CODED = /^(?:encode(?:-long)?|decode)\./;

/** Codecs with kernels of their own, which share nothing with those of the paged formats: kernels/cuda/nuq-encode.cu. */
const APART = /^nuq/;
const isApart = (codec: string | undefined): boolean => codec !== undefined && APART.test(codec);

/** Kernels whose law a site shows: one for all codecs, where no codec's own is known, and the codec's own. */
const kernelsOf = (site: SiteSamples): readonly string[] => {
  const { benchmark } = site;
  if (JOINED_LAW.shows(site)) return [];
  const codec = codecOf(site);
  if (benchmark.startsWith(KERNEL)) {
    const name = benchmark.slice(KERNEL.length);
    if (codec === undefined) return [name];
    const common = name === 'encode' && LONG_CODED.includes(codec) ? LONG_ENCODE : name;
    return [...(isApart(codec) ? [] : [common]), `${name}.${codec}`];
  }
  const [operation] = site.operations;
  if (benchmark !== 'attend' || codec === undefined || operation.kind !== 'attend') return [];
  return [smallPageLaw(codec, operation.pageTokens) ?? `attend.${codec}`];
};

/** Kernels that attend to coded pages and cut rows as that of plain ones does; few sites have pages of few tokens. */
const CUT = /^attend\.(?!nuq|.*\.small$)/;

/** Kernels whose blocks prepare their queries and tables before they attend. */
const PREPARED = /^attend\.nuq/;

/** A kernel's share of what the law of all codecs says. */
const codecLaw = (name: string): Law => ({
  name: `kernel ${name}`,
  parameters: [],
  table: { name, sizes: KERNEL_SIZES, chosen: true },
  shows: (site) => kernelsOf(site).includes(name),
});

/** Channels that kernels which rebuild sum products over: with a single number of them, bytes go with products. */
const depthsOf = (sites: readonly SiteSamples[]): ReadonlySet<number> =>
  new Set(
    sites.flatMap(({ operations: [operation] }) => {
      const { latentDim, rank } = (operation?.kind === 'score' && operation.call?.shape) || {};
      return latentDim ?? rank ?? [];
    }),
  );

/** Query heads of rows, as sites have them. */
const headsOf = (sites: readonly SiteSamples[]): ReadonlySet<number> =>
  new Set(sites.flatMap(({ operations: [one] }) => (one?.kind === 'score' && one.heads) || []));

const isInPasses = (name: string): boolean =>
  Object.hasOwn(KERNEL_BINDERS, name) && KERNEL_BINDERS[name].inPasses === true;

const kernelLaw = (name: string, sites: readonly SiteSamples[]): Law => {
  const path = `stack.kernels[${name}]`;
  const shows = (site: SiteSamples): boolean => kernelsOf(site).includes(name);
  const multiplies = sites.some((site) => shows(site) && multipliesIn(site));
  const hasRows = sites.some(
    (site) => shows(site) && site.operations[0].kind === 'score' && site.operations[0].rows !== undefined,
  );
  // Tiles take longer than memory on a GPU: what they would reach of its rate, bytes at all, and rows do not show.
  const rebuilds = REBUILDING.includes(name);
  const showsRate = !rebuilds || depthsOf(sites.filter(shows)).size > 1;
  const hasTables = sites.some(
    (site) => shows(site) && site.operations[0].kind === 'score' && lookUpsOf(site.operations[0]) !== null,
  );
  const hasBlocks = PREPARED.test(name);
  const hasHeads = !rebuilds && headsOf(sites.filter(shows)).size > 1;
  const numbers = [
    'startNs',
    ...(hasHeads ? ['headNs'] : []),
    ...(CUT.test(name) ? ['turnNs'] : []),
    ...(rebuilds ? [] : ['rampNs', 'rampBytes']),
    ...(showsRate ? ['rateRatio'] : []),
    'flopsRatio',
    ...(hasTables ? ['tableRatio'] : []),
    ...((hasRows && !rebuilds) || hasBlocks ? ['rowNs'] : []),
    ...(rebuilds ? ['aloneRatio'] : []),
  ];
  return {
    name: `kernel ${name}`,
    parameters: [...numbers, ...(multiplies ? ['matrixRatio'] : [])].map((number) => `${path}.${number}`),
    ...(rebuilds
      ? { taken: { [`${path}.rampNs`]: 0, ...(showsRate ? {} : { [`${path}.rateRatio`]: 1 }) } }
      : {}),
    // Without several numbers of query heads, arithmetic would be taken for what hides behind bytes.
    ...(hasHeads
      ? { stated: { [`${path}.inPasses`]: { value: isInPasses(name), how: 'validate/execute/kernels' } } }
      : {}),
    ...(hasBlocks ? { first: { [`${path}.rowNs`]: 5000 } } : {}),
    errorPath: `${path}.errorRatio`,
    // What all codecs have in common; their own tables stand on it.
    table: CODED.test(`${name}.`) ? { name, sizes: ['bytes'] } : { name, sizes: KERNEL_SIZES, chosen: true },
    shows,
  };
};

/** The laws of the kernels that sites show, by name. */
export const kernelLaws = (sites: readonly SiteSamples[]): readonly Law[] =>
  [...new Set(sites.flatMap(kernelsOf))].sort().map((name) => {
    const isShare = CODED.test(name) && !isApart(name.replace(CODED, ''));
    return isShare ? codecLaw(name) : kernelLaw(name, sites);
  });
