/**
 * A processor as its own accelerator, for calibration: hbm and dram are one memory, threads are its multiprocessors and
 * copy engines, and no datasheet states peaks. So the base of the fit states what the machine is, rates that nothing
 * fits are those of its memory, and copies get rates of their own below them.
 */
import { flopsOf } from '../microbench/microbench.ts';
import { type Constant, type MachineDescription, put } from '../overlay.ts';
import { measuredNs, type Samples } from '../samples.ts';
import type { Law } from './law.ts';

/** GB/s of one copying thread and TFLOP/s of tiles of attention, from which the fits start. */
const FIRST_COPY = 10;
const FIRST_TFLOPS = 1;

const HARDWARE = 'hardware';
const LINK = `${HARDWARE}.link`;
const ACCELERATOR = `${HARDWARE}.accelerator`;
const HOST = `${HARDWARE}.host`;

export const isProcessor = ({ backend }: Samples['machine']): boolean => backend !== 'cuda';

/** Highest of the rates that were read off, bytes/ns; undefined where none was. */
const bestRate = ({ sites }: Samples, of: RegExp): number | undefined => {
  const rates = sites.flatMap((site) =>
    site.readingBytes !== undefined && of.test(site.reading ?? '')
      ? [site.readingBytes / measuredNs(site)]
      : [],
  );
  return rates.length === 0 ? undefined : Math.max(...rates);
};

/** Highest rate of arithmetic at any site, TFLOP/s. */
const bestTflops = ({ sites }: Samples): number => {
  const rates = sites.map(
    (site) => site.operations.reduce((sum, one) => sum + flopsOf(one), 0) / measuredNs(site) / 1000,
  );
  return Math.max(1e-6, ...rates);
};

/** Puts what the processor is and what its memory and arithmetic reach in place of the base's machine. */
export const describeProcessor = (
  description: MachineDescription,
  samples: Samples,
  constant: (status: string, how: string) => (value: number) => Constant,
): void => {
  // kernels/cpu/gather.cpp packs all rows before it sends them.
  Object.assign(description.stack, { gathersFirst: true });
  const { units, l2Bytes = 0, hbmBytes = 0, dramBytes = 0 } = samples.machine;
  const state = (how: string, values: Readonly<Record<string, number>>): void => {
    for (const [path, value] of Object.entries(values))
      put(description, path, constant('measured', how)(value));
  };
  const known = (path: string, value: number) => (value > 0 ? { [path]: value } : {});
  state('as the operating system says', {
    [`${ACCELERATOR}.sms`]: units,
    [`${HOST}.cpu.threads`]: units,
    ...known(`${ACCELERATOR}.l2.capacityBytes`, l2Bytes),
    ...known(`${ACCELERATOR}.memory.capacityBytes`, hbmBytes),
    ...known(`${HOST}.dram.capacityBytes`, dramBytes),
  });
  const tflops = bestTflops(samples);
  const types = ['bf16', 'fp32'].flatMap((type) => [`${type}.peakTflops`, `${type}.achievedTflops`]);
  state('best of all sites', Object.fromEntries(types.map((at) => [`${ACCELERATOR}.compute.${at}`, tflops])));
  put(description, `${ACCELERATOR}.prefillAttention.maxTflops`, constant('fitted', 'start')(FIRST_TFLOPS));
  for (const type of ['fp8', 'int8'] as const) delete description.hardware.accelerator.compute[type];
  const read = bestRate(samples, /achievedBytesPerNs$|readBytesPerNs$/);
  const copy = bestRate(samples, /copyBytesPerNs$/);
  if (read === undefined || copy === undefined) return;
  const rate = Math.max(read, copy);
  const rates = ['peak', 'h2d', 'd2h', 'hostSum', 'uva.', 'pageable.h2d', 'pageable.d2h'];
  const paths = rates.map((name) => `${LINK}.${name}${name.endsWith('.') ? 'bytesPerNs' : 'BytesPerNs'}`);
  paths.push(
    `${ACCELERATOR}.hbm.peakBytesPerNs`,
    `${HOST}.dram.peakBytesPerNs`,
    `${HOST}.dram.readBytesPerNs`,
  );
  state('its memory', {
    ...Object.fromEntries(paths.map((path) => [path, rate])),
    [`${HOST}.dram.mixedBytesPerNs`]: copy,
  });
  for (const way of ['h2d', 'd2h'])
    put(description, `${LINK}.engine.${way}BytesPerNs`, constant('fitted', 'start')(FIRST_COPY));
  Object.assign(description.hardware.link, { kind: 'memory', generation: 'host memory' });
};

const moved = (path: string): string =>
  path.replace(/^hardware\.link\.([hd]2[hd]BytesPerNs)$/, 'hardware.link.engine.$1');

/** Numbers of kernels whose blocks share work as those of a GPU do. */
const UNSHARED =
  /\.(?:(?:turn|skew|merge|mergeRound|mergeListed)Ns|turnHiddenRatio|startRatio|keptRatio|gemm\.tokenNs)$/;

/** The law as a processor shows it; null where it has no such thing. */
export const processorLaw = (law: Law): Law | null => {
  // Two copying threads share nothing but memory.
  if (law.name === 'both directions at once') return null;
  if (law.name === 'copies over the link')
    return {
      ...law,
      parameters: law.parameters.map(moved),
      atMost: Object.fromEntries(Object.entries(law.atMost ?? {}).map(([path]) => [moved(path), path])),
    };
  // Plain cores share no rows and no products in known stretches.
  const { taken = {}, stated = {}, ...rest } = law;
  const parameters = [...law.parameters, ...Object.keys(taken)].filter((path) => !UNSHARED.test(path));
  // They compute on tiles, and may be slower than memory.
  if (law.name === 'decode attention')
    return { ...rest, parameters: [...parameters, `${ACCELERATOR}.prefillAttention.maxTflops`] };
  // They have products to do while they read, which tensor cores take along.
  const withoutPasses = Object.entries(stated).map(([path, { how }]) => [path, { value: false, how }]);
  return { ...rest, parameters, stated: Object.fromEntries(withoutPasses) };
};
