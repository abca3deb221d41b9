/**
 * Matrix products: start + max(flops / rate, bytes / rate), 8.8 % hold-out error over 23,902 shapes on an H100
 * (AIConfigurator tables); a wave-quantisation term makes it worse.
 */
import type { DenseOperation, Gemm } from '../program/operation.ts';
import { kernelStartNs, toCost } from './cost-flow.ts';
import type { ElementType, Machine } from './cost-machine.ts';
import type { OperationCost } from './operation-cost.ts';
import { gemmSizes, tiledProducts } from './sizes.ts';
import { productTurns } from './tiling.ts';
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
