/**
 * Matrix products, and the kernels that move bytes through HBM: score, append, merge, encode, decode.
 * Products: start + max(flops / rate, bytes / rate), 8.8 % hold-out error over 23,902 shapes on an H100
 * (AIConfigurator tables); a wave-quantisation term makes it worse. The rest are rooflines.
 */
import type {
  AppendOperation,
  DecodeOperation,
  DenseOperation,
  EncodeOperation,
  Gemm,
  MergeOperation,
  ScoreOperation,
} from '../program/operation.ts';
import { hbmBytes, kernelStartNs, overlapped, ROOFLINE_TRUST, toCost } from './cost-flow.ts';
import { hostCost } from './cost-host.ts';
import type { ElementType, Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import { rebuildTurns } from './product-tiles.ts';
import {
  gemmSizes,
  hostScoreWork,
  mergeSizes,
  rowSizes,
  type Sizes,
  type Streaming,
  streamingSizes,
  tiledProducts,
} from './sizes.ts';
import { productTurns } from './tiling.ts';
import { type KernelLaw, rampNsOf } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';

const typeOfElement = (elementBytes: number): ElementType =>
  elementBytes >= 4 ? 'fp32' : elementBytes >= 2 ? 'bf16' : 'fp8';

interface ProductTime {
  readonly flops: number;
  readonly bytes: number;
  readonly startNs: number;
  readonly flopsNs: number;
  readonly bytesNs: number;
  readonly inDomain: boolean;
}

/** Activations of 8-bit products come back as 16-bit numbers. */
const outputElementBytes = (elementBytes: number): number => Math.max(2, elementBytes);

const productTime = (
  machine: Machine,
  product: Gemm,
  elementBytes: number,
  type: ElementType,
): ProductTime => {
  const { m, n, k, weightBytes } = product;
  const { gemm } = machine;
  const timeRatio = timeRatioOf(machine.utilisation.gemm, gemmSizes(product));
  const turns = productTurns(product, machine.tiling);
  const flops = 2 * m * n * k;
  const bytes = weightBytes + m * k * elementBytes + m * n * outputElementBytes(elementBytes);
  return {
    flops,
    bytes,
    startNs: (gemm.startNs + turns * m * gemm.tokenNs) * timeRatio,
    flopsNs: (flops / gemm.flopsPerNs[type]) * timeRatio,
    bytesNs: (bytes / gemm.bytesPerNs) * timeRatio,
    inDomain: m <= 65_536 && n >= 256 && k >= 256 && n <= 262_144 && k <= 65_536,
  };
};

/** Cost of products one after the other, with `companions` element-wise passes around each. */
const productsCost = (
  machine: Machine,
  gemms: readonly Gemm[],
  elementBytes: number,
  type: ElementType,
  bare: boolean,
): OperationCost => {
  const { gemm, hbm, launch } = machine;
  const times = gemms
    .flatMap((one) => tiledProducts(one, machine.tiling.tokenTiles))
    .map((one) => productTime(machine, one, elementBytes, type));
  const sum = (of: (time: ProductTime) => number): number =>
    times.reduce((total, time) => total + of(time), 0);
  const around = gemms.map(({ companions }) => {
    if (bare) return { kernels: 0, passes: 0 };
    if (companions !== undefined) return { kernels: companions, passes: companions };
    return { kernels: gemm.kernelsPerGemm - 1, passes: gemm.passesPerGemm };
  });
  const passed = gemms.reduce((sum, { m, n }, at) => sum + m * n * around[at].passes, 0);
  const passBytes = 2 * passed * outputElementBytes(elementBytes);
  const kernels = times.length + around.reduce((sum, { kernels }) => sum + kernels, 0);
  const bytes = sum((time) => time.bytes) + passBytes;
  const flowNs = sum((time) => Math.max(time.flopsNs, time.bytesNs)) + passBytes / hbm.copyBytesPerNs;
  const bindsOnFlops = sum((time) => Math.max(0, time.flopsNs - time.bytesNs)) > flowNs / 2;
  const smallKernels = kernels - times.length;
  return toCost(machine, {
    fixedNs:
      sum((time) => time.startNs) + times.length * launch.extraNs + smallKernels * kernelStartNs(machine),
    amount: bindsOnFlops ? sum((time) => time.flops) : bytes,
    bounds: [{ label: bindsOnFlops ? 'compute' : 'hbm', ns: flowNs }],
    takes: { hbm: bytes },
    trust: gemm,
    inDomain: times.every((time) => time.inDomain),
    hostNs: kernels * launch.hostNs,
  });
};

/** Cost of one product alone, in the given element type. */
export const gemmCost = (
  machine: Machine,
  gemm: Gemm,
  elementBytes: number,
  type: ElementType,
): OperationCost => productsCost(machine, [gemm], elementBytes, type, true);

/** Cost of a layer's products with the element-wise kernels that the stack puts around them. */
export const denseCost = (machine: Machine, { gemms, elementBytes }: DenseOperation): OperationCost =>
  productsCost(machine, gemms, elementBytes, typeOfElement(elementBytes), false);

/** Law of declared work that has no kernel of its own. */
const GENERAL = 'score';

interface Streamed extends Streaming {
  /** True where one kernel of our own does it all: a stack that measured its kernels launches no other. */
  readonly fused?: boolean;
  /** Bytes that the kernel reads from host memory over the link. */
  readonly farBytes?: number;
  /** Time over the roofline; default 1. */
  readonly timeRatio?: number;
  /** Arithmetic that is done for each that is asked for, in whole tiles; default 1. */
  readonly padding?: number;
  /** Names of the measured kernel that does it; the first that the stack knows rules. */
  readonly names: readonly string[];
  /** Sizes beside those of streaming. */
  readonly sizes?: Sizes;
}

/** The law of a kernel that the stack has measured, or the roofline that stands for one. */
const lawOf = (
  machine: Machine,
  names: readonly string[],
  timeRatio: number,
): KernelLaw & { readonly name: string; readonly matrixFlopsPerNs: number } => {
  const measured = names.find((name) => Object.hasOwn(machine.kernels, name));
  if (measured !== undefined) {
    // Measured in graphs, as all laws are. Its products are its own: the projections' kernel says nothing of them.
    const law = machine.kernels[measured];
    return {
      ...law,
      name: measured,
      startNs: law.startNs + machine.launch.extraNs,
      matrixFlopsPerNs: machine.flopsPerNs.bf16 * law.matrixRatio,
    };
  }
  const rateRatio = 1 / timeRatio;
  return {
    ...ROOFLINE_TRUST,
    name: '',
    startNs: kernelStartNs(machine),
    rowNs: 0,
    headNs: 0,
    rampNs: 0,
    rampBytes: 1,
    rateRatio,
    flopsRatio: rateRatio,
    matrixRatio: rateRatio,
    inPasses: false,
    aloneRatio: 1,
    matrixFlopsPerNs: machine.gemm.flopsPerNs.bf16 * rateRatio,
  };
};

/** Time over what the law says: by its table, and where a kernel follows the law of others, by its own on top of theirs. */
const tabulatedRatio = (machine: Machine, names: readonly string[], law: string, sizes: Sizes): number => {
  const { utilisation } = machine;
  const ratio = timeRatioOf(utilisation[law], sizes);
  const own = names.slice(0, names.indexOf(law)).find((name) => Object.hasOwn(utilisation, name));
  return own === undefined ? ratio : ratio * timeRatioOf(utilisation[own], sizes);
};

/**
 * Time of a multiprocessor's tiles over that of as many in pairs: two blocks hide each other's loads, and the last of an odd
 * number waits for its own.
 */
const pairing = ({ aloneRatio }: KernelLaw, turns: number | undefined): number =>
  turns === undefined ? 1 : 1 + ((turns % 2) * (aloneRatio - 1)) / turns;

/** A kernel that streams bytes through HBM and computes on them with plain cores, or feeds them to tensor cores. */
export const streamedCost = (machine: Machine, work: Streamed): OperationCost => {
  const { launch, uva, link, flopsPerNs } = machine;
  const {
    readBytes,
    writeBytes,
    flops,
    matrixFlops = 0,
    farBytes = 0,
    timeRatio = 1,
    padding = 1,
    names,
  } = work;
  const law = lawOf(machine, names, timeRatio);
  const kernels = work.fused === true && law.name !== '' && law.name !== GENERAL ? 1 : work.kernels;
  const bytes = readBytes + writeBytes + farBytes;
  const takenBytes = hbmBytes(machine, readBytes, writeBytes);
  const matrixNs = matrixFlops / law.matrixFlopsPerNs;
  const { turns } = work.sizes ?? {};
  const hbmNs = takenBytes / machine.hbm.readBytesPerNs / law.rateRatio;
  const computeNs = pairing(law, turns) * padding * (flops / flopsPerNs.fp32 / law.flopsRatio + matrixNs);
  return toCost(machine, {
    fixedNs:
      law.rowNs * (work.sizes?.rows ?? 0) +
      law.headNs * Math.sqrt(work.sizes?.queryRows ?? 0) +
      (law.inPasses ? computeNs : 0) +
      kernels * (law.startNs + rampNsOf(law, takenBytes / Math.max(1, kernels))) +
      (farBytes > 0 ? uva.roundTripNs : 0),
    timeRatio: tabulatedRatio(machine, names, law.name, {
      ...streamingSizes({ ...work, kernels }),
      ...work.sizes,
    }),
    amount: bytes > 0 ? bytes : flops + matrixFlops,
    bounds: [
      { label: `${link.kind}.h2d`, ns: farBytes / uva.bytesPerNs },
      { label: 'hbm', ns: hbmNs },
      // A tile's product and what goes out of it hide those of the block beside it, not its own.
      {
        label: 'compute',
        ns: law.inPasses ? 0 : turns === undefined ? computeNs : overlapped(computeNs, hbmNs),
      },
    ],
    takes: { hbm: takenBytes, h2d: farBytes, host: farBytes, dram: farBytes },
    trust: law,
    inDomain: true,
    hostNs: kernels * launch.hostNs,
  });
};

export const scoreCost = (machine: Machine, operation: ScoreOperation): OperationCost => {
  const { readBytes, writeBytes, flops, matrixFlops = 0, kernels, where, call } = operation;
  const names = [...(call === undefined ? [] : [call.kernel]), `score.${operation.index}`, GENERAL];
  if (where === 'gpu') {
    const { turns, padding } = rebuildTurns(operation, machine.tiling) ?? { padding: 1 };
    return streamedCost(machine, {
      readBytes: readBytes.hbm ?? 0,
      writeBytes: writeBytes.hbm ?? 0,
      farBytes: readBytes.dram ?? 0,
      flops,
      matrixFlops,
      padding,
      kernels: kernels * machine.index.launchesPerKernel,
      timeRatio: machine.index.timeRatio,
      fused: call !== undefined,
      sizes: { ...rowSizes(operation), ...(turns === undefined ? {} : { turns }) },
      names,
    });
  }
  return hostCost(machine, names, hostScoreWork(operation));
};

/** Its own kernel, or where attention takes it along what that adds. */
export const appendCost = (machine: Machine, { bytes, isTakenAlong }: AppendOperation): OperationCost =>
  streamedCost(machine, {
    readBytes: 0,
    writeBytes: bytes,
    flops: 0,
    kernels: 1,
    names: [...(isTakenAlong === true ? ['append.joined'] : []), 'append'],
  });

export const mergeCost = (machine: Machine, operation: MergeOperation): OperationCost =>
  streamedCost(machine, {
    readBytes: operation.bytes,
    writeBytes: 0,
    flops: 0,
    kernels: 1,
    names: ['merge'],
    sizes: mergeSizes(operation),
  });

export const codecCost = (
  machine: Machine,
  { kind, codec, inBytes, outBytes, flops }: EncodeOperation | DecodeOperation,
): OperationCost =>
  streamedCost(machine, {
    readBytes: inBytes,
    writeBytes: outBytes,
    flops,
    kernels: 1,
    names: [`${kind}.${codec}`, kind],
  });
