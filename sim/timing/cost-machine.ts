/**
 * A profile and a software stack as plain numbers: what the cost formulas compute with. Each law keeps its error
 * (P95 of its hold-out, wider where its numbers are assumed) and whether it is anchored in measurements at all.
 */
import type { Profile } from '../hardware/schema.ts';
import type { Stack } from '../hardware/stack-schema.ts';
import { computeRates, FLOPS_PER_TFLOP_NS } from './compute-rates.ts';
import { type Direction, directionOf } from './direction.ts';
import { type HostThreads, hostThreads } from './host-threads.ts';
import { resourcesOf, type SharedResources } from './shared-resources.ts';
import { type Tiling, tilingOf } from './tiling.ts';
import { type KernelLaw, kernelsOf, type Ramp, rampOf, type Trust, trustOf } from './trust.ts';
import { type Utilisation, utilisationOf } from './utilisation.ts';

export type ElementType = 'bf16' | 'fp16' | 'fp8' | 'int8' | 'fp32';

export interface Machine extends SharedResources {
  readonly name: string;
  readonly stack: string;
  /** NVMe's where it is known. */
  readonly capacityBytes: { readonly hbm: number; readonly dram: number; readonly nvme?: number | undefined };
  readonly usdPerHour: number | null;
  readonly sms: number;
  readonly tiling: Tiling;
  readonly l2Bytes: number;
  readonly hbm: {
    readonly peakBytesPerNs: number;
    readonly readBytesPerNs: number;
    readonly copyBytesPerNs: number;
    readonly latencyNs: number;
    readonly sectorBytes: number;
    /** Bytes of read capacity that one written byte takes. */
    readonly writeWeight: number;
  };
  readonly dram: {
    readonly readBytesPerNs: number;
    readonly writeWeight: number;
    readonly latencyNs: number;
  };
  readonly cpu: HostThreads;
  /** Time from one kernel to the next, and CPU time of a launch (hidden where the GPU takes longer). */
  readonly launch: {
    readonly kernelNs: number;
    readonly extraNs: number;
    readonly hostNs: number;
    readonly ahead?: boolean;
  };
  /** Achieved flops per ns by element type. */
  readonly flopsPerNs: Readonly<Record<ElementType, number>>;
  readonly gemm: Trust & {
    readonly startNs: number;
    readonly bytesPerNs: number;
    readonly flopsPerNs: Readonly<Record<ElementType, number>>;
    readonly kernelsPerGemm: number;
    readonly passesPerGemm: number;
    readonly tokenNs: number;
  };
  readonly decodeAttention: Trust &
    Ramp & {
      readonly startNs: number;
      readonly waveNs: number;
      readonly turnNs: number;
      readonly turnHiddenRatio: number;
      readonly skewNs: number;
      readonly mergeNs: number;
      readonly mergeRoundNs: number;
      readonly mergeListedNs: number;
      readonly formNs: number;
      readonly bytesPerNs: number;
      readonly expandsKv: boolean;
      readonly copies: number;
    };
  readonly prefillAttention: Trust & { readonly maxFlopsPerNs: number; readonly halfTokens: number };
  readonly gather: Trust & {
    readonly bytesPerNs: number;
    readonly startNs: number | null;
    readonly rowNs: number;
    readonly cachedBytesPerNs: number;
  };
  readonly select: Trust & {
    readonly startNs: number;
    readonly passes: number;
    readonly passNs: number;
    readonly smBytesPerNs: number;
    readonly joinNs: number;
    readonly listNs: number;
    /** Bytes of keys that stay in the last cache from sweep to sweep. */
    readonly keptBytes: number;
    readonly timeRatio: number;
  };
  /** Measured kernels by name; see the stack's schema. */
  readonly kernels: Readonly<Record<string, KernelLaw>>;
  readonly hostKernels: Readonly<Record<string, KernelLaw>>;
  /** Shares of laws' speeds by name of the law. */
  readonly utilisation: Readonly<Record<string, Utilisation>>;
  readonly index: { readonly launchesPerKernel: number; readonly timeRatio: number };
  readonly link: Trust &
    Ramp & {
      readonly kind: Profile['link']['kind'];
      readonly h2d: Direction;
      readonly d2h: Direction;
      readonly hostSumBytesPerNs: number;
      readonly latencyNs: number;
      readonly perCallNs: number;
      readonly seekNs: number;
      readonly choiceNs: number;
      readonly batchSetupNs: number;
      readonly batchRowNs: number;
    };
  readonly uva: Trust & {
    readonly bytesPerNs: number;
    readonly outstanding: number;
    readonly roundTripNs: number;
    readonly sectorBytes: number;
    readonly reachBytes: number;
    readonly granuleBytes: number;
    readonly walkNs: number;
    readonly startNs: number | null;
  };
  readonly nvme: {
    readonly readBytesPerNs: number;
    readonly writeBytesPerNs: number;
    readonly readNs: number;
    readonly writeNs: number;
    readonly latencyNs: number;
  } | null;
}

/** What one translation of host memory covers where a profile doesn't say: the large page of a GPU's own tables. */
const GRANULE_BYTES = 65_536;

/** Read-capacity bytes that one written byte costs, from the read rate and the rate of equal reads and writes. */
const writeWeight = (readRate: number, mixedRate: number): number =>
  Math.max(1, (2 * readRate) / mixedRate - 1);

const linkOf = (link: Profile['link']): Machine['link'] => ({
  ...trustOf([link.h2dBytesPerNs, link.d2hBytesPerNs, link.dma, link.latencyNs], link.errorRatio),
  kind: link.kind,
  h2d: directionOf(link, 'h2d'),
  d2h: directionOf(link, 'd2h'),
  hostSumBytesPerNs: link.hostSumBytesPerNs.value,
  latencyNs: link.latencyNs.value,
  ...rampOf(link),
  perCallNs: link.dma.perCallNs.value,
  seekNs: link.dma.seekNs?.value ?? 0,
  choiceNs: link.dma.choiceNs?.value ?? 0,
  batchSetupNs: link.dmaBatch.setupNs.value,
  batchRowNs: link.dmaBatch.rowNs.value,
});

const uvaOf = ({ uva, errorRatio }: Profile['link']): Machine['uva'] => ({
  ...trustOf([uva.bytesPerNs, uva.outstanding, uva.roundTripNs, uva.walkNs], errorRatio),
  bytesPerNs: uva.bytesPerNs.value,
  outstanding: uva.outstanding.value,
  roundTripNs: uva.roundTripNs.value,
  sectorBytes: uva.sectorBytes.value,
  reachBytes: uva.reachBytes.value,
  granuleBytes: uva.granuleBytes?.value ?? GRANULE_BYTES,
  walkNs: uva.walkNs.value,
  startNs: uva.startNs?.value ?? null,
});

const kernelLaws = (profile: Profile, stack: Stack) => {
  const { hbm, gemm, decodeAttention, prefillAttention, gather, select } = profile.accelerator;
  const { products } = computeRates(profile.accelerator);
  const readRate = hbm.achievedBytesPerNs.value;
  const scaled = (rates: typeof products, ratio: number) => ({
    bf16: rates.bf16 * ratio,
    fp16: rates.fp16 * ratio,
    fp8: rates.fp8 * ratio,
    int8: rates.int8 * ratio,
    fp32: rates.fp32 * ratio,
  });
  return {
    gemm: {
      ...trustOf([gemm.startNs, gemm.memoryEfficiency, gemm.computeEfficiency], gemm.errorRatio),
      startNs: gemm.startNs.value,
      tokenNs: gemm.tokenNs?.value ?? 0,
      bytesPerNs: Math.min(
        gemm.memoryEfficiency.value * hbm.peakBytesPerNs.value * stack.gemm.rateRatio.value,
        readRate,
      ),
      flopsPerNs: scaled(products, stack.gemm.rateRatio.value),
      kernelsPerGemm: stack.dense.kernelsPerGemm.value,
      passesPerGemm: stack.dense.passesPerGemm.value,
    },
    decodeAttention: {
      ...trustOf([decodeAttention.startNs, decodeAttention.rateRatio], decodeAttention.errorRatio),
      startNs: Math.max(decodeAttention.startNs.value, stack.decodeAttention.startNs?.value ?? 0),
      ...rampOf(decodeAttention),
      waveNs: decodeAttention.waveNs.value,
      turnNs: decodeAttention.turnNs?.value ?? 0,
      turnHiddenRatio: decodeAttention.turnHiddenRatio?.value ?? 0,
      skewNs: decodeAttention.skewNs?.value ?? 1,
      mergeNs: decodeAttention.mergeNs?.value ?? 0,
      mergeRoundNs: decodeAttention.mergeRoundNs?.value ?? 0,
      mergeListedNs: decodeAttention.mergeListedNs?.value ?? decodeAttention.mergeRoundNs?.value ?? 0,
      formNs: decodeAttention.formNs?.value ?? 0,
      bytesPerNs:
        // Both are shares of the streaming rate: the profile's of a good kernel there, the stack's of its own.
        readRate * Math.min(1, decodeAttention.rateRatio.value, stack.decodeAttention.rateRatio.value),
      expandsKv: stack.decodeAttention.expandsKv,
      copies: stack.decodeAttention.copies?.value ?? 0,
    },
    prefillAttention: {
      ...trustOf([prefillAttention.maxTflops], prefillAttention.errorRatio),
      maxFlopsPerNs:
        prefillAttention.maxTflops.value *
        stack.prefillAttention.rateRatio.value *
        (prefillAttention.warpGroups ? (stack.prefillAttention.warpGroupRatio?.value ?? 1) : 1) *
        FLOPS_PER_TFLOP_NS,
      halfTokens: prefillAttention.halfTokens.value,
    },
    gather: {
      ...trustOf([gather.rateRatio], gather.errorRatio),
      bytesPerNs: gather.rateRatio.value * hbm.copyBytesPerNs.value,
      startNs: gather.startNs?.value ?? null,
      rowNs: gather.rowNs?.value ?? 0,
      cachedBytesPerNs: gather.cachedBytesPerNs?.value ?? Infinity,
    },
    select: {
      ...trustOf([stack.select], stack.select.errorRatio),
      startNs: select.startNs.value,
      passes: select.passes.value,
      passNs: select.passNs.value,
      smBytesPerNs: select.smBytesPerNs.value,
      joinNs: select.joinNs?.value ?? 0,
      listNs: select.listNs?.value ?? 0,
      keptBytes: (select.keptRatio?.value ?? Infinity) * profile.accelerator.l2.capacityBytes.value,
      timeRatio: stack.select.timeRatio.value,
    },
    index: {
      launchesPerKernel: stack.index?.launchesPerKernel?.value ?? 1,
      timeRatio: stack.index?.timeRatio?.value ?? 1,
    },
    kernels: kernelsOf(stack.kernels),
    hostKernels: kernelsOf(stack.hostKernels),
    utilisation: utilisationOf(stack),
  };
};

/** The machine that a validated profile and stack describe. */
export const resolveMachine = (profile: Profile, stack: Stack): Machine => {
  const { accelerator, host, link, nvme, price } = profile;
  const { hbm, launch } = accelerator;
  const { dram } = host;
  const kernelNs = stack.launch === 'graph' ? launch.graphNs.value : launch.streamNs.value;
  return {
    name: profile.name,
    stack: stack.name,
    resources: resourcesOf(profile),
    capacityBytes: {
      hbm: accelerator.memory.capacityBytes.value,
      dram: dram.capacityBytes.value,
      nvme: nvme?.capacityBytes?.value,
    },
    usdPerHour: price?.usdPerHour.value ?? null,
    sms: accelerator.sms.value,
    tiling: tilingOf(stack, accelerator.sms.value),
    l2Bytes: accelerator.l2.capacityBytes.value,
    hbm: {
      peakBytesPerNs: hbm.peakBytesPerNs.value,
      readBytesPerNs: hbm.achievedBytesPerNs.value,
      copyBytesPerNs: Math.min(hbm.copyBytesPerNs.value, hbm.achievedBytesPerNs.value),
      latencyNs: hbm.latencyNs.value,
      sectorBytes: hbm.sectorBytes.value,
      writeWeight: writeWeight(hbm.achievedBytesPerNs.value, hbm.copyBytesPerNs.value),
    },
    dram: {
      readBytesPerNs: dram.readBytesPerNs.value,
      writeWeight: writeWeight(dram.readBytesPerNs.value, dram.mixedBytesPerNs.value),
      latencyNs: dram.latencyNs.value,
    },
    cpu: hostThreads(host, stack),
    launch: {
      kernelNs,
      // The kernel laws were fitted on graph replays: their start holds one graph node already.
      extraNs: Math.max(0, kernelNs - launch.graphNs.value),
      hostNs: stack.hostNs.value,
      ahead: stack.launchesAhead ?? false,
    },
    flopsPerNs: computeRates(accelerator).achieved,
    ...kernelLaws(profile, stack),
    link: linkOf(link),
    uva: uvaOf(link),
    nvme: nvme
      ? {
          readBytesPerNs: nvme.readBytesPerNs.value,
          writeBytesPerNs: nvme.writeBytesPerNs.value,
          readNs: 1e9 / nvme.readsPerS.value,
          writeNs: 1e9 / nvme.writesPerS.value,
          latencyNs: nvme.latencyNs.value,
        }
      : null,
  };
};
