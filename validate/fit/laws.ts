/**
 * The laws that calibration fits, each on the microbenchmarks that show it and in an order in which a law needs only
 * those before it. A law's formula is the cost model itself (sim/timing/); here stand the numbers that it may move.
 */
import { hostTableOf } from '../../sim/timing/cost-host.ts';
import { hostScoreWork } from '../../sim/timing/sizes.ts';
import { codecOf } from '../microbench/microbench.ts';
import type { SiteSamples } from '../samples.ts';
import { JOINED_LAW } from './joined-law.ts';
import { kernelLaws } from './kernel-laws.ts';
import { ATTEND_MERGE, USUAL_BLOCK } from './kernel-tiles.ts';
import type { Law } from './law.ts';
import type { TableShape } from './table.ts';

const of =
  (...benchmarks: readonly string[]) =>
  ({ benchmark }: SiteSamples): boolean =>
    benchmarks.includes(benchmark);

const LINK = 'hardware.link';
const ACCELERATOR = 'hardware.accelerator';

/** The driver's copies to and from its own pinned memory go by what the processor's caches keep, a direction each. */
const pageableLaw = (way: 'h2d' | 'd2h', latency: string): Law => ({
  name: `pageable copies ${way}`,
  parameters: [`${LINK}.pageable.${way}BytesPerNs`, `${LINK}.pageable.${latency}`],
  atMost: { [`${LINK}.pageable.${way}BytesPerNs`]: `${LINK}.${way}BytesPerNs` },
  table: { name: `pageable.${way}`, sizes: ['rowBytes'] },
  shows: ({ benchmark, operations: [operation] }) =>
    benchmark === 'pageable' && (operation?.kind === 'fetch') === (way === 'h2d'),
});

/** Blocks that attend with other heads than those that the start is of: their places in the stack. */
const OTHER_BLOCKS = [...ATTEND_MERGE.blocks.keys()].filter((at) => at !== USUAL_BLOCK);

const MACHINE_LAWS: readonly Law[] = [
  {
    name: 'copies over the link',
    parameters: [
      `${LINK}.h2dBytesPerNs`,
      `${LINK}.d2hBytesPerNs`,
      `${LINK}.latencyNs`,
      `${LINK}.rampNs`,
      `${LINK}.rampBytes`,
      `${LINK}.dma.perCallNs`,
      `${LINK}.dma.h2dGapNs`,
      `${LINK}.dma.d2hGapNs`,
    ],
    atMost: {
      [`${LINK}.h2dBytesPerNs`]: `${LINK}.peakBytesPerNs`,
      [`${LINK}.d2hBytesPerNs`]: `${LINK}.peakBytesPerNs`,
    },
    errorPath: `${LINK}.errorRatio`,
    shows: of('host-copy', 'many-copies'),
  },
  {
    name: 'copies of chosen rows',
    parameters: [`${LINK}.dma.seekNs`, `${LINK}.dma.choiceNs`],
    shows: of('chosen-copies'),
  },
  {
    name: 'batched copies',
    parameters: [`${LINK}.dmaBatch.setupNs`, `${LINK}.dmaBatch.rowNs`],
    table: { name: 'batch', sizes: ['rowBytes'] },
    shows: of('batched-copies'),
  },
  {
    name: 'both directions at once',
    parameters: [`${LINK}.hostSumBytesPerNs`],
    shows: of('both-ways'),
  },
  pageableLaw('h2d', 'latencyNs'),
  pageableLaw('d2h', 'd2hLatencyNs'),
  {
    name: 'kernel reads of host memory',
    parameters: [
      `${LINK}.uva.bytesPerNs`,
      `${LINK}.uva.outstanding`,
      `${LINK}.uva.roundTripNs`,
      `${LINK}.uva.reachBytes`,
      `${LINK}.uva.walkNs`,
      `${LINK}.uva.startNs`,
    ],
    atMost: { [`${LINK}.uva.bytesPerNs`]: `${LINK}.h2dBytesPerNs` },
    shows: of('uva', 'uva-layers'),
  },
  {
    name: 'rows gathered by the CPU',
    parameters: ['startNs', 'rowNs', 'threadBytesPerNs', 'copyBytesPerNs'].map(
      (name) => `hardware.host.cpu.${name}`,
    ),
    errorPath: 'hardware.host.cpu.errorRatio',
    table: { name: 'cpu-gather', sizes: ['rows', 'rowBytes'] },
    shows: of('cpu-gather'),
  },
  {
    name: 'reads of a file',
    parameters: ['readBytesPerNs', 'readsPerS', 'latencyNs'].map((name) => `hardware.nvme.${name}`),
    table: { name: 'file', sizes: ['rows', 'rowBytes'] },
    shows: of('file'),
  },
  {
    name: 'rows gathered in HBM',
    parameters: ['rateRatio', 'startNs', 'rowNs', 'cachedBytesPerNs'].map(
      (name) => `${ACCELERATOR}.gather.${name}`,
    ),
    errorPath: `${ACCELERATOR}.gather.errorRatio`,
    table: { name: 'rows', sizes: ['rows', 'rowBytes'] },
    shows: of('gather'),
  },
  {
    name: 'decode attention',
    parameters: [
      'startNs',
      'rampNs',
      'rampBytes',
      'waveNs',
      'turnNs',
      'turnHiddenRatio',
      'skewNs',
      'mergeNs',
      'mergeRoundNs',
      'mergeListedNs',
      'rateRatio',
    ]
      .map((name) => `${ACCELERATOR}.decodeAttention.${name}`)
      .concat(OTHER_BLOCKS.map((at) => `stack.decodeAttention.merge.blocks[${at}].startRatio`)),
    errorPath: `${ACCELERATOR}.decodeAttention.errorRatio`,
    table: { name: 'attend', sizes: ['headDim', 'queryRows', 'turns', 'rows', 'bytes'] },
    shows: (site) => site.benchmark === 'attend' && codecOf(site) === undefined,
  },
  {
    name: 'matrix products',
    parameters: ['startNs', 'tokenNs', 'memoryEfficiency', 'computeEfficiency'].map(
      (name) => `${ACCELERATOR}.gemm.${name}`,
    ),
    errorPath: `${ACCELERATOR}.gemm.errorRatio`,
    table: { name: 'gemm', sizes: ['tokens', 'bytes'] },
    shows: of('gemm'),
  },
  {
    name: 'selection',
    parameters: ['startNs', 'passNs', 'smBytesPerNs', 'joinNs', 'listNs', 'keptRatio'].map(
      (name) => `${ACCELERATOR}.select.${name}`,
    ),
    errorPath: `${ACCELERATOR}.select.errorRatio`,
    table: { name: 'select', sizes: ['way', 'slice', 'rows', 'chosenOf', 'candidates'] },
    shows: of('select'),
  },
];

/** Whether threads take lists in turn: attention does, and scores that look up rows. */
const listsIn = ({ operations: [operation] }: SiteSamples): boolean =>
  operation?.kind === 'attend' ||
  (operation?.kind === 'score' && hostScoreWork(operation).lists !== undefined);

/** The same for kernels of host threads: `host-kernel/NAME`. */
const HOST_KERNEL = 'host-kernel/';
const GENERAL_HOST = 'score';

/**
 * Attention goes by how long a token is, and how far ahead a thread can ask by how many of them a list has; matching by how
 * much of a thread's own caches its counts of the keys fill.
 */
const hostSizesOf = (kernel: string, hasLists: boolean): TableShape['sizes'] => {
  if (kernel === 'attend') return ['rowBytes', 'rows', 'bytes'];
  return hasLists ? ['candidates', 'rows'] : ['rowBytes', 'bytes', 'flopsPerByte', 'writeShare'];
};

const hostKernelLaw = (benchmark: string, sites: readonly SiteSamples[]): Law => {
  const kernel = benchmark.slice(HOST_KERNEL.length);
  const path = `stack.hostKernels[${kernel}]`;
  const hasLists = sites.some((site) => of(benchmark)(site) && listsIn(site));
  const numbers = ['startNs', 'rateRatio', 'flopsRatio', ...(hasLists ? ['rowNs'] : [])];
  return {
    name: `host kernel ${kernel}`,
    parameters: numbers.map((name) => `${path}.${name}`),
    // Threads are met alike, whatever they do then.
    ...(kernel === GENERAL_HOST
      ? {}
      : { scarce: { [`${path}.startNs`]: `stack.hostKernels[${GENERAL_HOST}].startNs` } }),
    // A thread meets a list in a few misses.
    first: { [`${path}.rowNs`]: 300 },
    errorPath: `${path}.errorRatio`,
    table: {
      name: hostTableOf(kernel),
      sizes: hostSizesOf(kernel, hasLists),
    },
    shows: of(benchmark),
  };
};

/** A kernel a form and the merge of their outputs are known by then. */
const FORMS_LAW: Law = {
  name: 'attention over several forms',
  parameters: [`${ACCELERATOR}.decodeAttention.formNs`],
  shows: of('attend-forms'),
};

/** The laws that a machine's samples show, in the order in which they are fitted. */
export const lawsOf = (sites: readonly SiteSamples[]): readonly Law[] => {
  const benchmarks = [...new Set(sites.map(({ benchmark }) => benchmark))].sort();
  const general = `${HOST_KERNEL}${GENERAL_HOST}`;
  const hostKernels = benchmarks
    .filter((name) => name.startsWith(HOST_KERNEL))
    .sort((a, b) => Number(b === general) - Number(a === general))
    .map((name) => hostKernelLaw(name, sites));
  return [...MACHINE_LAWS, ...kernelLaws(sites), JOINED_LAW, FORMS_LAW, ...hostKernels].filter((law) =>
    sites.some((site) => law.shows(site)),
  );
};
