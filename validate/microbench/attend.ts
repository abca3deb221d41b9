/** Decode attention over paged KV in device memory: sequences, context, head shapes; pages, single tokens, coded pages. */
import { FORMATS, type FormatName, pageStrideOf } from '../../kernels/formats.ts';
import { catalog as codecs } from '../../sim/policy/codecs/catalog.generated.ts';
import type { AttendOperation } from '../../sim/program/operation.ts';
import { attendOf } from '../../sim/timing/cost-cases.ts';
import type { Layout } from '../execute/memory.ts';
import { type Bounds, type Microbench, passesFor, powers, repeated, type Site } from './microbench.ts';

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

interface Case extends Heads {
  readonly batch: number;
  readonly context: number;
  readonly pageTokens: number;
  readonly form: FormatName;
}

const LLAMA: Heads = { heads: 32, kvHeads: 8, headDim: 128 };
const QWEN: Heads = { heads: 14, kvHeads: 2, headDim: 64 };
const ELEMENT_BYTES = 2;
/**
 * Contexts are no powers of two: of those, each multiprocessor gets an even part of one row, which hardly ever happens to
 * a growing cache.
 */
const UNEVEN = 37 / 32;
/** Formats that are codecs with a law of attention of their own. */
const CODED: readonly FormatName[] = ['int8', 'int4', 'int4-token', 'k8v4', 'int8-g64', 'int4-g64'];

const refsOf = (layout: Layout, one: Case) => {
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

const operationOf = (one: Case): AttendOperation => {
  const raw = attendOf({ ...one, elementBytes: ELEMENT_BYTES });
  if (!Object.hasOwn(codecs, one.form)) return raw;
  const { kBytesPerToken, vBytesPerToken, decodeFlopsPerToken } = codecs[one.form as keyof typeof codecs];
  const tokens = one.batch * one.kvHeads * one.context;
  const bytes = tokens * (kBytesPerToken(one.headDim) + vBytesPerToken(one.headDim));
  const decodeFlops = tokens * decodeFlopsPerToken(one.headDim);
  return {
    ...raw,
    readBytes: { hbm: bytes },
    flops: raw.flops + decodeFlops,
    coded: [{ codec: one.form, bytes, share: 1, decodeFlops }],
  };
};

const nameOf = ({ batch, context, heads, kvHeads, headDim, pageTokens, form }: Case): string =>
  [
    `batch ${batch} context ${context} heads ${heads}/${kvHeads} x ${headDim} pages of ${pageTokens}`,
    ...(form === 'bf16' ? [] : [form]),
  ].join(' ');

const siteOf = (bounds: Bounds, one: Case): Site => {
  const operation = operationOf(one);
  const passes = passesFor(operation.readBytes.hbm ?? 1, bounds, 32);
  return {
    id: nameOf(one),
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: passes }, () => refsOf(layout, one));
      return repeated(passes, (pass) => ({ kernel: 'attend', ...all[pass], reals: { scale: 0 } }), 'compute');
    },
  };
};

const casesOf = (): readonly Case[] => [
  ...[LLAMA, QWEN].flatMap((shape) =>
    [1, 4, 16, 64].flatMap((batch) =>
      powers(256 * UNEVEN, 600_000, 2).map(
        (context): Case => ({ ...shape, batch, context, pageTokens: 16, form: 'bf16' }),
      ),
    ),
  ),
  ...powers(256 * UNEVEN, 5000, 4).flatMap((context) =>
    [1, 8].map((batch): Case => ({ ...LLAMA, batch, context, pageTokens: 1, form: 'bf16' })),
  ),
  ...CODED.flatMap((form) =>
    [1, 8].flatMap((batch) =>
      powers(512 * UNEVEN, 160_000, 2).map(
        (context): Case => ({ ...LLAMA, batch, context, pageTokens: 64, form }),
      ),
    ),
  ),
];

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
