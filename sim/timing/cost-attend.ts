/**
 * Attention: split-KV decode, and prefill. Decode: start + wave · sequences · kvHeads / SMs + bytes / rate (fitted on
 * vLLM operator tables of AIConfigurator; the term per sequence takes the hold-out error on an H100 from 23 to 9 %).
 * Prefill: causal flops at a rate that saturates with the keys that a query sees (FlashAttention-3, arXiv:2407.08608).
 */
import type { AttendOperation } from '../program/operation.ts';
import { type Attended, headTiles, joiningOf, mergeBlock, splitOf } from './attend-split.ts';
import { toCost } from './cost-flow.ts';
import { hostCost } from './cost-host.ts';
import { mergeCost } from './cost-kernels.ts';
import type { Machine } from './cost-machine.ts';
import { type OperationCost, soloNs } from './operation-cost.ts';
import { attendSizes, hostAttendWork, rawTokenBytes, streamingSizes } from './sizes.ts';
import { rampNsOf } from './trust.ts';
import { timeRatioOf } from './utilisation.ts';

/** Query rows of a prefill tile, and keys that a split of it takes at least. */
const PREFILL_TILE_ROWS = 128;
const SPLIT_KEYS = 512;
/** Less of an operation's keys than this is a rounding of shares. */
const NO_SHARE = 1e-9;

/** Flops spent for each one asked for: query rows of a KV head waste the rest of their last tile. */
const paddingOf = (machine: Machine, { queries, heads, kvHeads }: AttendOperation): number => {
  const { value, alone } = machine.tiling.attendRows;
  const rows = (queries * heads) / kvHeads;
  return alone && rows === 1 ? 1 : (Math.ceil(rows / value) * value) / rows;
};

/** Keys that a query reads on average, from the flops: 4 · heads · headDim a query and key. */
const seenKeys = ({ flops, heads, headDim, sequences, queries }: AttendOperation): number =>
  flops / (4 * heads * headDim * sequences * queries);

/** Flops per ns that attention reaches: saturates with the keys seen and with the tiles that fill the SMs. */
const attentionFlopsPerNs = (machine: Machine, operation: AttendOperation): number => {
  const { maxFlopsPerNs, halfTokens } = machine.prefillAttention;
  const { sequences, heads, kvHeads, queries } = operation;
  const rows = ((queries * heads) / kvHeads) * paddingOf(machine, operation);
  const tiles = Math.max(1, rows / PREFILL_TILE_ROWS) * sequences * kvHeads;
  const keys = seenKeys(operation);
  // Keys are split no further than fills the SMs: a split has a start of its own.
  const splits = Math.max(1, Math.min(keys / SPLIT_KEYS, machine.sms / tiles));
  // Fitted over causal prompts of s tokens, whose queries see s/2 keys on average.
  const saturation = keys / (keys + (splits * halfTokens) / 2);
  return maxFlopsPerNs * saturation * Math.min(1, (tiles * splits) / machine.sms);
};

/**
 * Bytes of HBM that decode attention takes: those it reads, and where the stack copies the cache before (read, written)
 * or copies KV heads once a query head (read, a group's worth written, and that read), those of the copies.
 */
const touchedBytes = (
  machine: Machine,
  { heads, kvHeads, queries }: AttendOperation,
  bytes: number,
): number => {
  if (queries > 1) return bytes;
  const { copies, expandsKv } = machine.decodeAttention;
  const expansion = expandsKv && heads > kvHeads ? heads / kvHeads : 0;
  return bytes * (1 + 2 * copies + 2 * expansion);
};

/** Times of a start that a block of these heads takes: each is a kernel of its own, with warps and sums of its own. */
const startRatioOf = (operation: AttendOperation, { tiling }: Machine): number =>
  mergeBlock(operation, tiling)?.startRatio?.value ?? 1;

/** Where a row's heads are more than a block holds, those for the others begin on idle multiprocessors, or behind. */
const headWaves = (operation: AttendOperation, attended: Attended, { tiling, sms }: Machine): number => {
  const tiles = headTiles(operation, tiling);
  return tiles === 1 ? 1 : Math.max(1, (tiles * splitOf(operation, attended, tiling).blocks) / sms);
};

/**
 * What blocks take because they share rows: for joining the parts of a row, and for rows that one attends to in turn,
 * `turnNs` each after the first. One that reads less than others, in `readNs`, has that time for it.
 */
const sharingNs = (
  machine: Machine,
  operation: AttendOperation,
  attended: Attended,
  readNs: number,
  turnNs = machine.decodeAttention.turnNs,
): number => {
  const { turnHiddenRatio, skewNs, mergeNs, mergeRoundNs, mergeListedNs } = machine.decodeAttention;
  const { parts, loads } = splitOf(operation, attended, machine.tiling);
  const { levels, rounds, isListed } = joiningOf(operation, attended, parts, machine.tiling);
  const roundNs = isListed ? mergeListedNs : mergeRoundNs;
  const joinNs = parts > 1 ? levels * mergeNs + rounds * roundNs : 0;
  const againNs = parts > 1 ? (levels - 1) * mergeNs + rounds * roundNs : 0;
  const later = loads.map(({ rows, share, firstShare }) => {
    const lastRatio = rows > 1 ? Math.max(0, 1 - ((1 - firstShare) * readNs) / skewNs) : 0;
    return (rows - 1) * turnNs + lastRatio * againNs - (1 - share + turnHiddenRatio * share) * readNs;
  });
  return Math.max(0, ...later) + joinNs;
};

/** What one kernel of an attention takes: it reads the KV of one stored form. */
interface Pass {
  readonly fixedNs: number;
  readonly hbmNs: number;
  readonly computeNs: number;
  /** Whether it leaves outputs that are merged with those of others. */
  readonly isPart: boolean;
}

interface Share {
  readonly bytes: number;
  /** Of attention's own flops. */
  readonly matrixFlops: number;
  readonly decodeFlops: number;
  /** Of a row. */
  readonly tokens: number;
}

const rawPass = (machine: Machine, operation: AttendOperation, share: Share): Pass => {
  const { decodeAttention: decode, prefillAttention: prefill, flopsPerNs } = machine;
  const { bytes, matrixFlops, decodeFlops } = share;
  const attended = { ...share, isCoded: false };
  const sizes = attendSizes(operation, attended, machine.tiling);
  const timeRatio = timeRatioOf(machine.utilisation.attend, sizes);
  const waves = (operation.sequences * operation.kvHeads) / machine.sms;
  const readNs = bytes / decode.bytesPerNs;
  const startNs =
    decode.startNs * startRatioOf(operation, machine) * headWaves(operation, attended, machine) +
    decode.waveNs * waves +
    sharingNs(machine, operation, attended, readNs);
  const tiles = headTiles(operation, machine.tiling);
  return {
    fixedNs: (startNs + rampNsOf(decode, bytes)) * timeRatio,
    hbmNs: tiles * readNs * timeRatio,
    computeNs: matrixFlops / prefill.maxFlopsPerNs + decodeFlops / flopsPerNs.fp32,
    isPart: true,
  };
};

/**
 * Where pages hold no multiple of so many tokens, kernels of codecs that scale keys by channel look up each token's scales:
 * kernels/cuda/attend-coded.cu.
 */
export const UNIFORM_PAGE = 32;

/**
 * The law of a form's kernel that reads pages of so many tokens, beside which the form's own may stand: k8v4 has one, its
 * groups of keys being whatever a page holds. Other codecs scale keys by token, or in groups of 32 and more that their
 * pages hold whole.
 */
export const smallPageLaw = (codec: string, pageTokens: number | undefined): string | undefined =>
  pageTokens !== undefined && pageTokens % UNIFORM_PAGE !== 0 ? `attend.${codec}.small` : undefined;

/** Codecs whose kernel cuts rows in its own way and joins them in a launch of its own: kernels/cuda/nuq-attend.cu. */
const CUT_OTHERWISE = /^nuq/;
/** Tokens that a block of it takes at a time, blocks a multiprocessor and a row at most, and query heads of one. */
export const NUQ_BLOCKS = { tokens: 64, perUnit: 24, perRow: 64, heads: 8 };

/** Blocks of it that a multiprocessor has to prepare at most: those with tokens, `tokens` a row. */
const nuqBlocks = ({ sequences, heads, kvHeads }: AttendOperation, tokens: number, sms: number): number => {
  const rows = sequences * kvHeads;
  const cuts = Math.min(NUQ_BLOCKS.perRow, Math.ceil((NUQ_BLOCKS.perUnit * sms) / rows));
  const tiles = Math.ceil(heads / kvHeads / NUQ_BLOCKS.heads);
  return Math.ceil((rows * tiles * Math.min(cuts, Math.ceil(tokens / NUQ_BLOCKS.tokens))) / sms);
};

/** By the kernel of the form; where the stack was measured without one, as declared work without a kernel of its own. */
const codedPass = (machine: Machine, operation: AttendOperation, codec: string, share: Share): Pass => {
  const small = smallPageLaw(codec, operation.pageTokens);
  const names = [small, `attend.${codec}`, 'score'];
  const name = names.find((one) => one !== undefined && Object.hasOwn(machine.kernels, one));
  if (name === undefined) return rawPass(machine, operation, share);
  const law = machine.kernels[name];
  const { bytes, matrixFlops, decodeFlops } = share;
  const work = { readBytes: bytes, writeBytes: 0, flops: decodeFlops, matrixFlops, kernels: 1 };
  const attended = { ...share, isCoded: true };
  const sizes = { ...streamingSizes(work), ...attendSizes(operation, attended, machine.tiling) };
  const timeRatio = timeRatioOf(machine.utilisation[name], sizes);
  const isOther = name !== 'score' && CUT_OTHERWISE.test(codec);
  const isCut = name !== 'score' && !isOther;
  // Declared work shares no rows.
  const tiles = isCut ? headTiles(operation, machine.tiling) : 1;
  const readNs = (tiles * bytes) / machine.hbm.readBytesPerNs / law.rateRatio;
  const { fp32, bf16 } = machine.flopsPerNs;
  const computeNs = decodeFlops / fp32 / law.flopsRatio + matrixFlops / bf16 / law.matrixRatio;
  const streamNs = Math.max(bytes / machine.hbm.readBytesPerNs, readNs, computeNs);
  // Small pages are the same block's, however many heads there are.
  const ratio = name === small ? 1 : startRatioOf(operation, machine);
  const startNs = isCut
    ? law.startNs * ratio * headWaves(operation, attended, machine) +
      sharingNs(machine, operation, attended, streamNs, law.turnNs)
    : law.startNs + (isOther ? law.rowNs * nuqBlocks(operation, share.tokens, machine.sms) : 0);
  return {
    fixedNs: (startNs + rampNsOf(law, bytes)) * timeRatio,
    hbmNs: readNs * timeRatio,
    computeNs: computeNs * timeRatio,
    isPart: name !== 'score',
  };
};

/** Decode attention over KV in HBM: a kernel a stored form, and their outputs merged where there are several. */
const decodeCost = (machine: Machine, operation: AttendOperation): OperationCost => {
  const { decodeAttention: decode, launch } = machine;
  const { coded = [], sequences, heads, kvHeads, headDim, flops } = operation;
  const own =
    coded.reduce((rest, { decodeFlops }) => rest - decodeFlops, flops) * paddingOf(machine, operation);
  const local = touchedBytes(machine, operation, operation.readBytes.hbm ?? 0);
  const raw = coded.reduce(({ bytes, part }, one) => ({ bytes: bytes - one.bytes, part: part - one.share }), {
    bytes: local,
    part: 1,
  });
  const passes = coded.map(({ codec, bytes, share, decodeFlops }) =>
    codedPass(machine, operation, codec, {
      bytes,
      matrixFlops: own * share,
      decodeFlops,
      tokens: share * operation.contextTokens,
    }),
  );
  if (coded.length === 0 || raw.part > NO_SHARE)
    passes.push(
      rawPass(machine, operation, {
        bytes: raw.bytes,
        matrixFlops: own * raw.part,
        decodeFlops: 0,
        tokens: raw.bytes / rawTokenBytes(operation) / (sequences * kvHeads),
      }),
    );
  const sum = (of: (pass: Pass) => number): number => passes.reduce((all, pass) => all + of(pass), 0);
  const parts = passes.filter(({ isPart }) => isPart).length;
  const bytes = parts * sequences * heads * (headDim + 2) * 4;
  const merge = { kind: 'merge', parts, bytes, layer: 0, stream: 'compute', after: [] } as const;
  const mergeNs = parts > 1 ? soloNs(mergeCost(machine, merge)) : 0;
  const hbmNs = sum((pass) => pass.hbmNs);
  const computeNs = sum((pass) => Math.max(pass.computeNs, pass.hbmNs));
  return toCost(machine, {
    fixedNs:
      sum((pass) => pass.fixedNs) +
      passes.length * launch.extraNs +
      (passes.length - 1) * decode.formNs +
      mergeNs,
    amount: computeNs > hbmNs || local === 0 ? flops : local,
    bounds: [
      { label: 'hbm', ns: hbmNs },
      { label: 'compute', ns: computeNs },
    ],
    takes: { hbm: local },
    trust: decode,
    inDomain: sequences <= 1024 && seenKeys(operation) <= 262_144,
    hostNs: passes.length * launch.hostNs,
  });
};

/** Cost of attention on the GPU (KV in HBM, or read over the link by the kernel itself) or on the CPU. */
export const attendCost = (machine: Machine, operation: AttendOperation): OperationCost => {
  if (operation.where === 'cpu') return hostCost(machine, ['attend'], hostAttendWork(operation));
  const { decodeAttention: decode, prefillAttention: prefill, launch, link, uva } = machine;
  const far = operation.readBytes.dram ?? 0;
  if (operation.queries === 1 && far === 0) return decodeCost(machine, operation);
  const local = touchedBytes(machine, operation, operation.readBytes.hbm ?? 0);
  const isDecode = operation.queries === 1;
  const waves = (operation.sequences * operation.kvHeads) / machine.sms;
  const startNs = decode.startNs + (isDecode ? decode.waveNs * waves + rampNsOf(decode, local) : 0);
  const computeNs =
    (operation.flops * paddingOf(machine, operation)) / attentionFlopsPerNs(machine, operation);
  const bytes = local + far;
  // The prefill law's saturation holds the kernel's start, so the start is taken out of its flow.
  const flopsNs = isDecode
    ? (operation.flops * paddingOf(machine, operation)) / prefill.maxFlopsPerNs
    : Math.max(0, computeNs - startNs);
  const memoryNs = Math.max(local / decode.bytesPerNs, far / uva.bytesPerNs);
  const keys = seenKeys(operation);
  return toCost(machine, {
    fixedNs: startNs + launch.extraNs + (far > 0 ? uva.roundTripNs : 0),
    amount: flopsNs > memoryNs || bytes === 0 ? operation.flops : bytes,
    bounds: [
      { label: 'hbm', ns: local / decode.bytesPerNs },
      { label: `${link.kind}.h2d`, ns: far / uva.bytesPerNs },
      { label: 'compute', ns: flopsNs },
    ],
    takes: { hbm: local, h2d: far, host: far, dram: far },
    trust: isDecode ? decode : prefill,
    inDomain: isDecode
      ? far === 0 && operation.sequences <= 1024 && keys <= 262_144
      : keys >= 512 && keys <= 16_384 && operation.headDim <= 128,
    hostNs: launch.hostNs,
  });
};
