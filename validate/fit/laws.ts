/**
 * The laws that calibration fits, each on the microbenchmarks that show it and in an order in which a law needs only
 * those before it. A law's formula is the cost model itself (sim/timing/); here stand the numbers that it may move.
 */
import type { SiteSamples } from '../samples.ts';

export interface Law {
  readonly name: string;
  /** Paths of the numbers, below { hardware, stack }; all positive. */
  readonly parameters: readonly string[];
  /** Path of a parameter's upper bound, where physics sets one. */
  readonly atMost?: Readonly<Record<string, string>>;
  /** Where the 95th percentile of the error on sites left out goes. */
  readonly errorPath?: string;
  shows(site: SiteSamples): boolean;
}

const of =
  (...benchmarks: readonly string[]) =>
  ({ benchmark }: SiteSamples): boolean =>
    benchmarks.includes(benchmark);

const LINK = 'hardware.link';
const ACCELERATOR = 'hardware.accelerator';

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
    shows: of('batched-copies'),
  },
  {
    name: 'both directions at once',
    parameters: [`${LINK}.hostSumBytesPerNs`],
    shows: of('both-ways'),
  },
  {
    name: 'pageable copies',
    parameters: [
      `${LINK}.pageable.h2dBytesPerNs`,
      `${LINK}.pageable.d2hBytesPerNs`,
      `${LINK}.pageable.latencyNs`,
    ],
    atMost: {
      [`${LINK}.pageable.h2dBytesPerNs`]: `${LINK}.h2dBytesPerNs`,
      [`${LINK}.pageable.d2hBytesPerNs`]: `${LINK}.d2hBytesPerNs`,
    },
    shows: of('pageable'),
  },
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
    shows: of('cpu-gather'),
  },
  {
    name: 'reads of a file',
    parameters: ['readBytesPerNs', 'readsPerS', 'latencyNs'].map((name) => `hardware.nvme.${name}`),
    shows: of('file'),
  },
  {
    name: 'rows gathered in HBM',
    parameters: ['rateRatio', 'startNs', 'rowNs'].map((name) => `${ACCELERATOR}.gather.${name}`),
    errorPath: `${ACCELERATOR}.gather.errorRatio`,
    shows: of('gather'),
  },
  {
    name: 'decode attention',
    parameters: ['startNs', 'rampNs', 'rampBytes', 'waveNs', 'rateRatio'].map(
      (name) => `${ACCELERATOR}.decodeAttention.${name}`,
    ),
    errorPath: `${ACCELERATOR}.decodeAttention.errorRatio`,
    shows: of('attend'),
  },
  {
    name: 'matrix products',
    parameters: ['startNs', 'memoryEfficiency', 'computeEfficiency'].map(
      (name) => `${ACCELERATOR}.gemm.${name}`,
    ),
    errorPath: `${ACCELERATOR}.gemm.errorRatio`,
    shows: of('gemm'),
  },
  {
    name: 'selection',
    parameters: ['startNs', 'passNs', 'smBytesPerNs'].map((name) => `${ACCELERATOR}.select.${name}`),
    errorPath: `${ACCELERATOR}.select.errorRatio`,
    shows: of('select'),
  },
];

/** One law for each kernel of its own that the samples show; `kernel/NAME` is its benchmark. */
const KERNEL = 'kernel/';

const kernelLaw = (benchmark: string): Law => {
  const path = `stack.kernels[${benchmark.slice(KERNEL.length)}]`;
  return {
    name: `kernel ${benchmark.slice(KERNEL.length)}`,
    parameters: ['startNs', 'rampNs', 'rampBytes', 'rateRatio', 'flopsRatio'].map(
      (name) => `${path}.${name}`,
    ),
    errorPath: `${path}.errorRatio`,
    shows: of(benchmark),
  };
};

/** The same for kernels of host threads: `host-kernel/NAME`. */
const HOST_KERNEL = 'host-kernel/';

const hostKernelLaw = (benchmark: string): Law => {
  const path = `stack.hostKernels[${benchmark.slice(HOST_KERNEL.length)}]`;
  return {
    name: `host kernel ${benchmark.slice(HOST_KERNEL.length)}`,
    parameters: ['startNs', 'rateRatio', 'flopsRatio'].map((name) => `${path}.${name}`),
    errorPath: `${path}.errorRatio`,
    shows: of(benchmark),
  };
};

/** The laws that a machine's samples show, in the order in which they are fitted. */
export const lawsOf = (sites: readonly SiteSamples[]): readonly Law[] => {
  const names = [...new Set(sites.map(({ benchmark }) => benchmark))].sort();
  const lawsUnder = (prefix: string, lawOf: (benchmark: string) => Law): readonly Law[] =>
    names.filter((name) => name.startsWith(prefix)).map(lawOf);
  return [...MACHINE_LAWS, ...lawsUnder(KERNEL, kernelLaw), ...lawsUnder(HOST_KERNEL, hostKernelLaw)].filter(
    (law) => sites.some((site) => law.shows(site)),
  );
};
