/** Decode attention over paged KV in device memory: sequences, context, head shapes; pages, single tokens, coded pages. */
import { FORMATS, type FormatName, pageStrideOf } from '../../kernels/formats.ts';
import { type Codec, codedBytesPerToken } from '../../sim/policy/codec.ts';
import { catalog as codecs } from '../../sim/policy/codecs/catalog.generated.ts';
import { kiviInTurn } from '../../sim/policy/uniform-codec.ts';
import type { AttendOperation } from '../../sim/program/operation.ts';
import { attendOf } from '../../sim/timing/cost-cases.ts';
import type { Layout } from '../execute/memory.ts';
import { type Bounds, type Microbench, passesFor, powers, repeated, type Site } from './microbench.ts';

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface AttendSite extends Heads {
  readonly batch: number;
  readonly context: number;
  readonly pageTokens: number;
  readonly form: FormatName;
}

export const LLAMA: Heads = { heads: 32, kvHeads: 8, headDim: 128 };
export const QWEN: Heads = { heads: 14, kvHeads: 2, headDim: 64 };
/** Other groups and dimensions: with them goes how much of a row each block leaves to be merged, and by which kernel. */
const GROUPS: readonly Heads[] = [
  [28, 4, 128],
  [8, 8, 128],
  [40, 8, 128],
  [64, 8, 128],
  [8, 1, 128],
  [12, 2, 128],
  [32, 2, 128],
  [32, 32, 128],
  [32, 8, 64],
  [9, 3, 64],
  [16, 1, 64],
  [32, 32, 96],
  [8, 4, 256],
].map(([heads, kvHeads, headDim]) => ({ heads, kvHeads, headDim }));
/** More query rows of a KV head than a block holds: several blocks read the same keys. */
const SHARED: readonly Heads[] = [
  { heads: 32, kvHeads: 1, headDim: 128 },
  { heads: 16, kvHeads: 1, headDim: 256 },
];
const ELEMENT_BYTES = 2;
/** Calls of a GPU's graph at least, while they stay quick: in a step, first pages come while the kernel before ends. */
const LEAST_CALLS = 8;
const QUICK_BYTES = 2 ** 32;
/** Pages of a power of two of them, of one page more, and of half as many more: rows then end within a block's share. */
export const PAGE_TOKENS = 64;
const even = (from: number, to: number): readonly number[] => powers(from, to, 2);
const oneMore = (from: number, to: number): readonly number[] =>
  even(from, to).map((size) => size + PAGE_TOKENS);
const halfMore = (from: number, to: number, factor = 2): readonly number[] =>
  powers(from, to, factor).map((size) => Math.ceil((1.45 * size) / PAGE_TOKENS) * PAGE_TOKENS);
/** Prompts of a power of two and a few tokens that were decoded: a last page with hardly any. */
const someMore = (from: number, to: number, factor: number): readonly number[] =>
  powers(from, to, factor).map((size) => size + 2);
/** What budgets leave: some tokens more than whole pages, tails of a few; of batches between the powers of two. */
const BUDGETS = [70, 516, 1228, 2050, 3200, 4098];
/** A page of few tokens, as small budgets leave them in codecs whose pages may have any number. */
const SMALL_PAGE = 8;
/** Two tiles of query heads on two KV heads: few rows, which many blocks share. */
const WIDE: Heads = { heads: 32, kvHeads: 2, headDim: 128 };
/** Formats that are codecs with a law of attention of their own. */
const CODED: readonly FormatName[] = [
  'int8',
  'int4',
  'int4-token',
  'k8v4',
  'int8-g64',
  'int4-g64',
  'int2',
  'int2-g64',
];
/** The codec of a format; KIVI's keys whose values wait to be coded have no file of their own. */
const codecNamed = (form: FormatName, headDim: number): Codec | undefined => {
  if (Object.hasOwn(codecs, form)) return codecs[form as keyof typeof codecs];
  if (form !== 'int2-keys') return undefined;
  const [keysCoded] = kiviInTurn(
    { kBits: 2, vBits: 2, group: 32 },
    { headDim, vBytesPerToken: ELEMENT_BYTES * headDim },
  );
  return keysCoded;
};

/** Places of one call, and its numbers. */
export const refsOf = (layout: Layout, one: AttendSite) => {
  const { batch, context, pageTokens, form, heads, kvHeads, headDim } = one;
  const rows = batch * kvHeads;
  const pages = Math.ceil(context / pageTokens);
  const pageStride = pageStrideOf(FORMATS[form], headDim, pageTokens);
  // Pages lie scattered, as an allocator leaves them: page p of row r is the r-th of the p-th lot.
  const table = Uint32Array.from(
    { length: rows * pages },
    (_, at) => (at % pages) * rows + Math.floor(at / pages),
  );
  return {
    refs: {
      q: layout.place('kv', batch * heads * headDim * ELEMENT_BYTES),
      pool: layout.place('kv', rows * pages * pageStride),
      table: layout.table('tables', table),
      offsets: layout.table(
        'tables',
        Uint32Array.from({ length: rows + 1 }, (_, row) => row * pages),
      ),
      tokens: layout.table('tables', new Uint32Array(rows).fill(context)),
      out: layout.place('outputs', batch * heads * headDim * 4),
    },
    ints: {
      rows,
      group: heads / kvHeads,
      headDim,
      pageTokens,
      pageStride,
      format: FORMATS[form].id,
      qType: 0,
      outType: 0,
      part: 0,
      parts: 0,
      units: 0,
    },
  };
};

/** Attention over KV of one stored form. */
export const operationOf = (one: AttendSite): AttendOperation => {
  const codec = codecNamed(one.form, one.headDim);
  return codec === undefined ? rawOperation(one) : codedOperation(one, one.form, codec);
};

type Attended = Omit<AttendSite, 'form'>;

const rawOperation = (one: Attended): AttendOperation => ({
  ...attendOf({ ...one, elementBytes: ELEMENT_BYTES }),
  pageTokens: one.pageTokens,
});

/** Attention over KV that a codec of this name has coded. */
export const codedOperation = (one: Attended, name: string, codec: Codec): AttendOperation => {
  const raw = rawOperation(one);
  const tokens = one.batch * one.kvHeads * one.context;
  const bytes = tokens * codedBytesPerToken(codec, one.headDim, PAGE_TOKENS);
  const decodeFlops = tokens * codec.decodeFlopsPerToken(one.headDim);
  return {
    ...raw,
    readBytes: { hbm: bytes },
    flops: raw.flops + decodeFlops,
    coded: [{ codec: name, bytes, share: 1, decodeFlops }],
  };
};

const nameOf = ({ batch, context, heads, kvHeads, headDim, pageTokens, form }: AttendSite): string =>
  [
    `batch ${batch} context ${context} heads ${heads}/${kvHeads} x ${headDim} pages of ${pageTokens}`,
    ...(form === 'bf16' ? [] : [form]),
  ].join(' ');

const siteOf = (bounds: Bounds, one: AttendSite): Site => {
  const operation = operationOf(one);
  const bytes = operation.readBytes.hbm ?? 1;
  const copies = passesFor(bytes, bounds, 32);
  const chain = bounds.backend === 'cuda' ? Math.min(LEAST_CALLS, Math.floor(QUICK_BYTES / bytes)) : 1;
  const passes = Math.max(chain, copies);
  return {
    id: nameOf(one),
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: copies }, () => refsOf(layout, one));
      return repeated(
        passes,
        (pass) => ({ kernel: 'attend', ...all[pass % copies], reals: { scale: 0 } }),
        'compute',
      );
    },
  };
};

const casesOf = (): readonly AttendSite[] => {
  const raw = (shape: Heads, batch: number, contexts: readonly number[], pageTokens = PAGE_TOKENS) =>
    contexts.map((context): AttendSite => ({ ...shape, batch, context, pageTokens, form: 'bf16' }));
  const coded = (form: FormatName, batch: number, contexts: readonly number[], shape = LLAMA) =>
    contexts.map((context): AttendSite => ({ ...shape, batch, context, pageTokens: PAGE_TOKENS, form }));
  return [
    ...[LLAMA, QWEN].flatMap((shape) =>
      [1, 4, 16, 64].flatMap((batch) => raw(shape, batch, even(256, 2 ** 19))),
    ),
    ...[1, 4, 16, 64].flatMap((batch) => raw(LLAMA, batch, oneMore(256, 2 ** 16))),
    ...[1, 4, 16].flatMap((batch) => raw(LLAMA, batch, halfMore(256, 2 ** 16))),
    // Other batches say nothing more of these: without them they are missed by 2 %.
    ...[1, 16].flatMap((batch) => raw(QWEN, batch, [...oneMore(256, 2 ** 16), ...halfMore(256, 2 ** 16)])),
    ...GROUPS.flatMap((shape) => [
      ...raw(shape, 1, [256, 576, 832, 1088, 1536, 2048, 2112, 3008, 4160, 8256, 16_448, 32_832, 65_600]),
      ...raw(shape, 1, someMore(2048, 2 ** 15, 4)),
      ...raw(shape, 6, [320, 576, 1024, 1088, 2112, 4160, 8256, 16_448]),
    ]),
    ...[3, 12].flatMap((batch) => raw(WIDE, batch, [448, 1088, 2050, 8256])),
    ...SHARED.flatMap((shape) => [
      ...raw(shape, 1, [576, 1088, 4160, 16_448, 65_600]),
      ...raw(shape, 6, [1088, 4160, 16_448]),
    ]),
    ...[1, 4].flatMap((batch) => raw(LLAMA, batch, someMore(1024, 2 ** 16, 2))),
    ...[1, 8, 32].flatMap((batch) => raw(LLAMA, batch, [2, 70])),
    ...[24, 64].flatMap((heads) => [2, 3, 12].flatMap((batch) => raw({ ...LLAMA, heads }, batch, BUDGETS))),
    ...[1, 8].flatMap((batch) => raw(LLAMA, batch, [100, 371, 837, 1250, 3305], 1)),
    ...[1, 3].flatMap((batch) => raw({ ...LLAMA, heads: 64 }, batch, [643, 2077, 5115], 1)),
    ...[1, 6].flatMap((batch) => raw(GROUPS[0], batch, [100, 371, 837, 1250, 3305], 1)),
    ...CODED.flatMap((form) => [
      ...coded(form, 1, even(512, 2 ** 17)),
      ...coded(form, 1, halfMore(512, 2 ** 14, 4)),
      ...coded(form, 8, oneMore(512, 2 ** 17)),
      ...coded(form, 1, [320, 576, 1088, 2112, 4160, 8256], GROUPS[0]),
      ...coded(form, 1, [1088, 8256, 65_600], WIDE),
      ...coded(form, 6, [2112, 16_448], WIDE),
      ...coded(form, 4, [2112], { heads: 8, kvHeads: 8, headDim: 128 }),
    ]),
    ...[1, 8].flatMap((batch) =>
      [40, 80, 160, 320, 640, 1280, 2560].map(
        (context): AttendSite => ({ ...LLAMA, batch, context, pageTokens: SMALL_PAGE, form: 'k8v4' }),
      ),
    ),
    // Never more than what waits to be coded.
    ...[1, 2, 4, 8, 16, 64].flatMap((batch) => coded('int2-keys', batch, [64, 128, 256])),
    ...[1, 12].flatMap((batch) => coded('int2-keys', batch, [64, 192], WIDE)),
  ];
};

export const microbench = {
  name: 'attend',
  number: 10,
  title: 'decode attention',
  kernels: ['attend'],
  sites: (bounds) =>
    casesOf()
      .map((one) => siteOf(bounds, one))
      .filter(
        ({ operations: [operation] }) =>
          operation.kind === 'attend' && (operation.readBytes.hbm ?? 0) <= bounds.hbmBytes / 2,
      ),
} satisfies Microbench;
