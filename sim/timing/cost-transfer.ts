/**
 * Transfers between tiers, and scattered rows within HBM. Laws and figures: measured on an H100 host, PCIe 5.0 x16
 * (sim/hardware/profiles/h100-sxm.json); LogGP reading of copies (Alexandrov et al., SPAA '95); Little's law for
 * kernel reads; misses of the address translation beyond its reach.
 */
import { exp } from '../engine/math.ts';
import { SimError } from '../error.ts';
import {
  type FetchOperation,
  PIECE_BYTES,
  type SpillOperation,
  type TierName,
} from '../program/operation.ts';
import {
  type Bound,
  dramBytes,
  hbmBytes,
  kernelStartNs,
  overlapped,
  type ResourceBytes,
  toCost,
  type Work,
} from './cost-flow.ts';
import { gatherCost, roundUp, type Shape, uncached } from './cost-gather.ts';
import { scatteredRowsNs } from './cost-host.ts';
import type { Machine } from './cost-machine.ts';
import { type OperationCost, soloNs } from './operation-cost.ts';
import { isProcessor } from './shared-resources.ts';
import { rampNsOf } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';

export type TransferOperation = FetchOperation | SpillOperation;

/** Region that uva rows are assumed to be scattered over when the operation doesn't say: 1 GiB. */
const UNKNOWN_REGION_BYTES = 2 ** 30;
/** Device block of an NVMe drive: smaller reads cost a whole one. */
const NVME_BLOCK_BYTES = 4096;

type Way = 'h2d' | 'd2h';

const labelOf = (machine: Machine, way: Way): string => `${machine.link.kind}.${way}`;

/** What payload bytes crossing the host link take from everything that they pass. */
const linkTakes = (machine: Machine, way: Way, bytes: number, dram: number): ResourceBytes => ({
  [way]: bytes,
  host: bytes,
  dram,
  hbm: way === 'h2d' ? hbmBytes(machine, 0, bytes) : bytes,
});

const dramOneWay = (machine: Machine, way: Way, bytes: number): number =>
  way === 'h2d' ? bytes : dramBytes(machine, 0, bytes);

/**
 * A batch of a CPU that launches ahead: it names rows while the copies before it flow, so that what naming adds to the
 * time of the bytes passes before the batch's turn. What a copy takes to begin does not: the engine is told of a batch
 * once all of the one before has arrived (128 rows of 192 KiB behind others: 481 us, 466 of bytes; H100 and H200).
 */
const namedAhead = (machine: Machine, work: Work, wireNs: number): OperationCost => {
  const aloneNs = soloNs(toCost(machine, work));
  const sent = toCost(machine, {
    ...work,
    timeRatio: 1,
    bounds: [{ label: work.bounds[0].label, ns: wireNs }],
  });
  const fixedNs = Math.max(0, aloneNs - (soloNs(sent) - sent.fixedNs));
  return { ...sent, fixedNs, toldNs: Math.max(0, fixedNs - machine.link.latencyNs) };
};

/**
 * Copy engine: n calls of `perCall` on the CPU, or n gaps and the bytes on the engine, whichever is longer. One batched
 * call costs the CPU as much a row as it takes to name them. Calls for rows that the GPU chooses wait for the choice.
 */
const dmaCost = (machine: Machine, way: Way, shape: Shape, operation: TransferOperation): OperationCost => {
  const { link } = machine;
  const { rows, rowBytes, bytes } = shape;
  const isBatch = operation.mode === 'dma-batch';
  const wireNs = bytes / link[way].copyBytesPerNs;
  const callsNs = rows * (isBatch ? link.batchRowNs : link.perCallNs);
  const { regionBytes, awaitsChoice = false } =
    operation.kind === 'fetch' ? operation : ({} as Partial<FetchOperation>);
  const seekNs = regionBytes === undefined ? 0 : link.seekNs;
  const bounds: readonly Bound[] = isBatch
    ? [{ label: labelOf(machine, way), ns: overlapped(callsNs, wireNs) }]
    : [
        { label: 'launch', ns: callsNs },
        { label: labelOf(machine, way), ns: rows * (link[way].gapNs + seekNs) + wireNs },
      ];
  const setupNs = (isBatch ? link.batchSetupNs : 0) + (awaitsChoice ? link.choiceNs : 0);
  const work: Work = {
    fixedNs: link.latencyNs + rampNsOf(link, bytes / rows) + setupNs,
    timeRatio: isBatch ? timeRatioOf(machine.utilisation.batch, { rowBytes }) : 1,
    amount: bytes,
    bounds,
    takes: linkTakes(machine, way, bytes, dramOneWay(machine, way, bytes)),
    trust: link,
    cores: 1,
    inDomain: bytes / rows >= 256 && bytes <= 2 ** 34,
    hostNs: setupNs + callsNs,
  };
  return isBatch && machine.launch.ahead === true ? namedAhead(machine, work, wireNs) : toCost(machine, work);
};

/** Pageable memory: each call copies through one pinned staging buffer and blocks, so calls don't overlap. */
const pageableCost = (machine: Machine, way: Way, { rows, bytes }: Shape): OperationCost => {
  const { link } = machine;
  const { pageableBytesPerNs, pageableLatencyNs } = link[way];
  return toCost(machine, {
    fixedNs: link.latencyNs + pageableLatencyNs,
    timeRatio: timeRatioOf(machine.utilisation[`pageable.${way}`], { rowBytes: bytes / rows }),
    amount: bytes,
    bounds: [{ label: 'host', ns: (rows - 1) * pageableLatencyNs + bytes / pageableBytesPerNs }],
    // Once by the DMA, and once read and once written by the CPU's copy.
    takes: linkTakes(machine, way, bytes, dramOneWay(machine, way, bytes) + dramBytes(machine, bytes, bytes)),
    trust: { ...link, errorRatio: link.errorRatio + 0.3 },
    cores: 1,
    inDomain: bytes / rows >= 65_536,
  });
};

/** Where the rows of a kernel's reads lie: their own region, and what a step visits of all such regions. */
interface Spread {
  readonly regionBytes: number;
  readonly visitedBytes: number;
  /** Pieces that hold the rows, read in ascending order; null = rows lie and come at random. */
  readonly pieces: number | null;
}

const spreadOf = (
  operation: TransferOperation,
  { bytes }: Shape,
  otherwise: number = UNKNOWN_REGION_BYTES,
): Spread => {
  const { regionBytes, visitedBytes, pieces } =
    operation.kind === 'fetch' ? operation : ({} as Partial<FetchOperation>);
  const region = Math.max(regionBytes ?? otherwise, bytes);
  return { regionBytes: region, visitedBytes: visitedBytes ?? region, pieces: pieces ?? null };
};

/** Places that n things hit which fall on so many at random: G (1 - exp(-n / G)). */
const occupied = (places: number, things: number): number =>
  Math.min(things, places * (1 - exp(-things / places)));

/**
 * Address translations that rows miss. The first row of a granule finds what the last step left of it. Rows in ascending
 * order find it from then on; where they come at random, only while the region itself is within reach.
 */
const missesOf = ({ uva }: Machine, rows: number, { regionBytes, visitedBytes, pieces }: Spread): number => {
  const beyond = (bytes: number): number => Math.max(0, 1 - uva.reachBytes / bytes);
  const granules = Math.max(1, regionBytes / uva.granuleBytes);
  if (pieces === null) {
    const first = occupied(granules, rows);
    return first * beyond(visitedBytes) + (rows - first) * beyond(regionBytes);
  }
  const visited =
    uva.granuleBytes > PIECE_BYTES
      ? occupied(granules, pieces)
      : Math.min(rows, pieces * (PIECE_BYTES / uva.granuleBytes));
  return visited * beyond(visitedBytes);
};

/** Time that scattered rows need on the link when kernels read them, ns. */
const uvaFlowNs = (machine: Machine, { rows, rowBytes }: Shape, spread: Spread): number => {
  const { uva } = machine;
  const sectors = roundUp(rowBytes, uva.sectorBytes);
  return Math.max(
    rows * Math.max(sectors / uva.bytesPerNs, uva.roundTripNs / uva.outstanding),
    missesOf(machine, rows, spread) * uva.walkNs,
  );
};

/** Zero-copy: a kernel reads (or writes) host memory directly, on the stream that it runs on. */
const uvaCost = (machine: Machine, way: Way, shape: Shape, operation: TransferOperation): OperationCost => {
  const { uva, launch, link } = machine;
  const isKnown = operation.kind === 'fetch' && operation.regionBytes !== undefined;
  const flowNs = uvaFlowNs(machine, shape, spreadOf(operation, shape));
  const within = (bytes: number): number =>
    uvaFlowNs(machine, shape, spreadOf(operation, shape, bytes)) / flowNs;
  const payload = shape.rows * roundUp(shape.rowBytes, uva.sectorBytes);
  const widen: readonly [number, number] =
    !isKnown && flowNs > 0 ? [within(1), within(Number.MAX_SAFE_INTEGER)] : [1, 1];
  return toCost(machine, {
    fixedNs: uva.startNs ?? kernelStartNs(machine) + uva.roundTripNs,
    amount: shape.bytes,
    bounds: [{ label: labelOf(machine, way), ns: Math.max(flowNs, shape.bytes / link[way].bytesPerNs) }],
    takes: {
      ...linkTakes(machine, way, payload, dramOneWay(machine, way, payload)),
      ...(isProcessor(link) && way === 'h2d'
        ? { hbm: hbmBytes(machine, 0, uncached(machine, payload, payload)) }
        : {}),
    },
    trust: { ...uva, errorRatio: uva.errorRatio + 0.1 },
    inDomain: shape.rowBytes >= 64 && shape.rows >= 512,
    hostNs: launch.hostNs,
    widen,
  });
};

/** The CPU gathers rows into a pinned buffer while the copy engine sends what is gathered. */
const cpuGatherCost = (machine: Machine, way: Way, { rows, rowBytes, bytes }: Shape): OperationCost => {
  const { cpu, link } = machine;
  const wireNs = bytes / link[way].copyBytesPerNs;
  const packNs = Math.max(scatteredRowsNs(machine, rows, rowBytes), bytes / cpu.copyBytesPerNs);
  // The first piece is packed before any is sent (or the last one sent after all are packed).
  const alone = Math.max(1 / cpu.gatherPieces.most, Math.min(1, cpu.gatherPieces.bytes / bytes));
  const leadNs = alone * Math.min(packNs, wireNs);
  const copyNs = link.latencyNs + link.perCallNs + link[way].gapNs;
  const startNs = cpu.startNs + copyNs;
  const cost = toCost(machine, {
    fixedNs: startNs,
    timeRatio: timeRatioOf(machine.utilisation['cpu-gather'], { rows, rowBytes }),
    amount: bytes,
    bounds: [
      { label: 'cpu', ns: packNs + leadNs },
      { label: labelOf(machine, way), ns: wireNs + leadNs },
    ],
    takes: linkTakes(machine, way, bytes, dramOneWay(machine, way, bytes) + dramBytes(machine, bytes, bytes)),
    trust: { ...link, errorRatio: cpu.errorRatio ?? link.errorRatio + 0.3 },
    inDomain: rowBytes >= 64,
  });
  // Threads are told once the stream gets there; only what a copy begins with hides behind the one before.
  return { ...cost, toldNs: (copyNs / startNs) * cost.fixedNs };
};

/** NVMe: blocks at the drive's rate of operations or bytes; without GDS the bytes bounce through host memory. */
const nvmeCost = (
  machine: Machine,
  operation: TransferOperation,
  { rows, rowBytes, bytes }: Shape,
): OperationCost => {
  const { nvme, link } = machine;
  if (nvme === null) throw new SimError('not-supported', `hardware ${machine.name} has no nvme tier`);
  const reads = operation.from === 'nvme';
  const drive = {
    bytesPerNs: reads ? nvme.readBytesPerNs : nvme.writeBytesPerNs,
    opNs: reads ? nvme.readNs : nvme.writeNs,
  };
  const blocks = rows * roundUp(rowBytes, NVME_BLOCK_BYTES);
  const other = reads ? operation.to : operation.from;
  const direct = operation.mode === 'gds' || other === 'dram';
  const way: Way = reads ? 'h2d' : 'd2h';
  const bounce = direct
    ? other === 'dram'
      ? dramBytes(machine, reads ? 0 : bytes, reads ? bytes : 0)
      : 0
    : dramBytes(machine, bytes, bytes);
  return toCost(machine, {
    fixedNs: nvme.latencyNs + (direct ? 0 : link.latencyNs + link.perCallNs),
    timeRatio: timeRatioOf(machine.utilisation.file, { rows, rowBytes }),
    amount: bytes,
    bounds: [
      { label: 'nvme', ns: Math.max(blocks / drive.bytesPerNs, rows * drive.opNs) },
      { label: labelOf(machine, way), ns: other === 'hbm' ? bytes / link[way].bytesPerNs : 0 },
    ],
    takes: {
      // The resource's capacity is the read rate; writes take more of it.
      nvme: (blocks * nvme.readBytesPerNs) / drive.bytesPerNs,
      ...(other === 'hbm' ? linkTakes(machine, way, bytes, bounce) : { dram: bounce }),
    },
    trust: { errorRatio: 0.4, anchored: false },
    inDomain: true,
  });
};

const unsupported = (from: TierName, to: TierName, mode: string): SimError =>
  new SimError('not-supported', `transfer ${from} -> ${to} by ${mode}: no link of the profile carries it`);

/** Cost of a fetch or spill. Throws SimError 'not-supported' for tiers that no link of a profile joins. */
export const transferCost = (machine: Machine, operation: TransferOperation): OperationCost => {
  const { from, to, rows, rowBytes, mode } = operation;
  const shape = { rows, rowBytes, bytes: rows * rowBytes };
  if (from === 'hbm' && to === 'hbm') return gatherCost(machine, shape);
  if (from === 'nvme' || to === 'nvme') {
    if (from === 'remote' || to === 'remote' || from === to) throw unsupported(from, to, mode);
    return nvmeCost(machine, operation, shape);
  }
  const way: Way | null =
    from === 'dram' && to === 'hbm' ? 'h2d' : from === 'hbm' && to === 'dram' ? 'd2h' : null;
  if (way === null || mode === 'gds') throw unsupported(from, to, mode);
  switch (mode) {
    case 'dma':
    case 'dma-batch':
      return dmaCost(machine, way, shape, operation);
    case 'pageable':
      return pageableCost(machine, way, shape);
    case 'uva':
      return uvaCost(machine, way, shape, operation);
    case 'cpu-gather':
      return cpuGatherCost(machine, way, shape);
    default: {
      const never: never = mode;
      return never;
    }
  }
};
