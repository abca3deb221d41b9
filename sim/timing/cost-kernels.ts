/** The kernels that move bytes through HBM: score, append, merge, encode, decode; each a roofline with a start. */
import type {
  AppendOperation,
  DecodeOperation,
  EncodeOperation,
  MergeOperation,
  ScoreOperation,
} from '../program/operation.ts';
import { hbmBytes, kernelStartNs, overlapped, ROOFLINE_TRUST, toCost } from './cost-flow.ts';
import { hostCost } from './cost-host.ts';
import type { Machine } from './cost-machine.ts';
import { type LookUps, lookUpsOf } from './look-ups.ts';
import type { OperationCost } from './operation-cost.ts';
import { rebuildTurns } from './product-tiles.ts';
import { hostScoreWork, mergeSizes, rowSizes, type Sizes, type Streaming, streamingSizes } from './sizes.ts';
import { type KernelLaw, rampNsOf } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';
import { workThreadBytes, workTurns } from './work-blocks.ts';

/** Law of codecs that take twice the tokens a block. */
export const LONG_ENCODE = 'encode-long';

/** Law of declared work that has no kernel of its own. */
const GENERAL = 'score';

interface Streamed extends Streaming {
  /** True where one kernel of our own does it all: a stack that measured its kernels launches no other. */
  readonly fused?: boolean;
  /** Bytes that the kernel reads from host memory over the link. */
  readonly farBytes?: number;
  /** Flops that fill tables, and of look-ups in them, which are told apart where a law states both. */
  readonly lookUps?: LookUps | null;
  /** Bytes of which it has as many threads as of what it computes, where those are more than its own. */
  readonly threadBytes?: number;
  /** Time over the roofline; default 1. */
  readonly timeRatio?: number;
  /** Arithmetic that is done for each that is asked for, in whole tiles; default 1. */
  readonly padding?: number;
  /** Tiles of a product that a multiprocessor takes one after the other; absent = it is not done in tiles. */
  readonly tileTurns?: number | undefined;
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
    lookUps = null,
    threadBytes = 0,
    timeRatio = 1,
    padding = 1,
    tileTurns,
    names,
  } = work;
  const law = lawOf(machine, names, timeRatio);
  const kernels = work.fused === true && law.name !== '' && law.name !== GENERAL ? 1 : work.kernels;
  const bytes = readBytes + writeBytes + farBytes;
  const takenBytes = hbmBytes(machine, readBytes, writeBytes);
  const matrixNs = matrixFlops / law.matrixFlopsPerNs;
  const { queryRows = 0 } = work.sizes ?? {};
  const hbmNs = takenBytes / machine.hbm.readBytesPerNs / law.rateRatio;
  const { flopsRatio, tableRatio } = law;
  // Query heads that look up wait for each other; those of a tile of products, in part.
  const inTurn = lookUps !== null && tableRatio !== undefined;
  const coreFlops = inTurn
    ? lookUps.lookUpFlops / flopsRatio + lookUps.tableFlops / tableRatio
    : flops / flopsRatio;
  const computeNs = pairing(law, tileTurns) * padding * (coreFlops / flopsPerNs.fp32 + matrixNs);
  return toCost(machine, {
    fixedNs:
      law.rowNs * (work.sizes?.rows ?? 0) +
      law.headNs * (inTurn ? queryRows : Math.sqrt(queryRows)) +
      (law.inPasses ? computeNs : 0) +
      kernels * (law.startNs + rampNsOf(law, Math.max(takenBytes, threadBytes) / Math.max(1, kernels))) +
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
        ns: law.inPasses ? 0 : tileTurns === undefined ? computeNs : overlapped(computeNs, hbmNs),
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
    const tiles = rebuildTurns(operation, machine.tiling);
    const turns = tiles?.turns ?? workTurns(operation, machine.tiling);
    return streamedCost(machine, {
      readBytes: readBytes.hbm ?? 0,
      writeBytes: writeBytes.hbm ?? 0,
      farBytes: readBytes.dram ?? 0,
      flops,
      matrixFlops,
      lookUps: lookUpsOf(operation),
      threadBytes: workThreadBytes(operation, machine.tiling),
      padding: tiles?.padding ?? 1,
      tileTurns: tiles?.turns,
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

export const codecCost = (machine: Machine, operation: EncodeOperation | DecodeOperation): OperationCost => {
  const { kind, codec, inBytes, outBytes, flops } = operation;
  return streamedCost(machine, {
    readBytes: inBytes,
    writeBytes: outBytes,
    flops,
    kernels: 1,
    names: [
      `${kind}.${codec}`,
      ...(kind === 'encode' && machine.tiling.longCoded.includes(codec) ? [LONG_ENCODE] : []),
      kind,
    ],
  });
};
