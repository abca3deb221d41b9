/**
 * Decode attention of one query token over paged KV. A row is one KV head of one sequence; q [rows, group, headDim]
 * (qType 0 bf16, 1 f16) holds its `group` query heads. Row r reads pages table[offsets[r] .. offsets[r + 1]) (u32) of
 * pool, `pageStride` bytes each in a `format` of formats.ts, and of their tokens the first tokens[r] (u32): only the
 * last page is partly filled. pageTokens 1 makes a token list. mask (optional, u32 a table entry): bit h set = query
 * head h reads that page. Logits are scaled by `scale` (0 = 1 / sqrt(headDim)).
 * parts 0: out [rows, group, headDim] = attention (outType 0 f32, 1 bf16, 2 f16); a head that reads nothing gets 0.
 * parts n: out f32 [rows, group, n, headDim + 2] gets o (not divided by l), m (of scaled logits, natural log) and l in
 * part `part`, for `merge`; m is 0 where l is 0. units: multiprocessors or threads to use, 0 = all.
 * k, v, slots (optional, together; raw pages): as in `append`, which is done first; a slot is in pages of its own row only.
 * logits (optional; raw pages): f32, row after row [group, pages of the row · pageTokens], gets the scaled logits of what
 * heads read; the others stay as they are.
 * Source: online softmax, arXiv 1805.02867; paged split-KV decode as in FlashInfer, arXiv 2501.01005.
 */
import type { KernelCase, KernelSpec, ReferenceArguments } from '../calls.ts';
import { bf16Of, f16Of, f32View, ofBf16, ofF16, toBf16, u16View, u32View } from '../floats.ts';
import { decodePage, FORMATS, formatOf, layoutOf, pageStrideOf } from '../formats.ts';
import type { Random } from '../random.ts';
import { drawPool } from '../random-pages.ts';
import { call as append } from './append.ts';
import { distinct } from './random-rows.ts';

const outBytes = (heads: number, headDim: number, parts: number, outType: number): number =>
  parts > 0 ? 4 * heads * parts * (headDim + 2) : heads * headDim * (outType === 0 ? 4 : 2);

/** What one query head attends to: logits and values in float64. */
interface Attended {
  readonly o: Float64Array;
  readonly logits: readonly number[];
  readonly m: number;
  readonly l: number;
}

const attendHead = (
  q: (channel: number) => number,
  scale: number,
  keys: readonly Float64Array[],
  values: readonly Float64Array[],
  headDim: number,
): Attended => {
  const logits = keys.map((key) => {
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += q(d) * key[d];
    return dot * scale;
  });
  const m = logits.reduce((most, x) => Math.max(most, x), -Infinity);
  const o = new Float64Array(headDim);
  let l = 0;
  logits.forEach((logit, token) => {
    const p = Math.exp(logit - m);
    l += p;
    for (let d = 0; d < headDim; d++) o[d] += p * values[token][d];
  });
  return { o, logits, m: keys.length === 0 ? 0 : m, l };
};

const write = ({ ints, bytes }: ReferenceArguments, head: number, { o, m, l }: Attended): void => {
  const { headDim, parts, part, outType } = ints;
  if (parts > 0) {
    const at = (head * parts + part) * (headDim + 2);
    f32View(bytes('out')).set([...o, m, l], at);
    return;
  }
  const result = o.map((x) => (l > 0 ? x / l : 0));
  if (outType === 0) f32View(bytes('out')).set(result, head * headDim);
  else u16View(bytes('out')).set(Array.from(result, outType === 1 ? bf16Of : f16Of), head * headDim);
};

interface Shape {
  readonly rows: number;
  readonly group: number;
  readonly headDim: number;
  readonly pageTokens: number;
}

/** Pages of a pool with random contents, in random order, for rows of random lengths; some may be empty, one alone long. */
const drawRows = (random: Random, { rows, pageTokens }: Shape) => {
  const longest = rows === 1 && random.integer(0, 2) === 0 ? 1600 : 200;
  const tokens = Uint32Array.from({ length: rows }, () =>
    random.integer(0, 7) === 0 ? 0 : random.integer(1, random.integer(0, 1) === 0 ? 40 : longest),
  );
  const offsets = new Uint32Array(rows + 1);
  for (let row = 0; row < rows; row++) offsets[row + 1] = offsets[row] + Math.ceil(tokens[row] / pageTokens);
  const pages = Math.max(1, offsets[rows] + random.integer(0, 3));
  const order = distinct(random, pages, pages);
  return { tokens, offsets, table: order.slice(0, Math.max(1, offsets[rows])), pages };
};

/** Slots for a new token of each row: any of its own that it has room for; none for some rows. */
const drawSlots = (
  random: Random,
  { rows, pageTokens }: Shape,
  { tokens, offsets, table }: ReturnType<typeof drawRows>,
): Uint32Array =>
  Uint32Array.from({ length: rows }, (_, row) => {
    const places = (offsets[row + 1] - offsets[row]) * pageTokens;
    if (places === 0 || random.integer(0, 9) === 0) return 0xffffffff;
    const token = random.integer(0, 1) === 0 ? tokens[row] - 1 : random.integer(0, places - 1);
    return table[offsets[row] + Math.floor(token / pageTokens)] * pageTokens + (token % pageTokens);
  });

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer);

const drawCase = (random: Random): KernelCase => {
  const name = random.among(Object.keys(FORMATS) as (keyof typeof FORMATS)[]);
  const { id: format, element } = FORMATS[name];
  const shape: Shape = {
    rows: random.integer(1, 4),
    group: random.among([1, 2, 3, 4, 7, 8, 12, 16]),
    headDim: random.among(element === 'code' ? [64, 128] : [64, 80, 96, 128, 256]),
    pageTokens: random.among([1, 8, 16, 32, 64, 5]),
  };
  const { rows, group, headDim, pageTokens } = shape;
  const drawn = drawRows(random, shape);
  const { tokens, offsets, table, pages } = drawn;
  const heads = rows * group;
  const parts = random.integer(0, 2) === 0 ? random.integer(1, 3) : 0;
  const outType = random.integer(0, 2);
  const qType = random.integer(0, 1);
  const queries = Float64Array.from({ length: heads * headDim }, () => 2 * random.normal());
  const q = qType === 0 ? toBf16(queries) : new Uint8Array(Uint16Array.from(queries, f16Of).buffer);
  const masked = random.integer(0, 3) === 0;
  const mask = Uint32Array.from(table, () => random.uint32());
  const appends = element !== 'code' && random.integer(0, 1) === 0;
  const halves = (): Uint8Array => {
    const numbers = Float64Array.from({ length: rows * headDim }, () => random.normal());
    return element === 'bf16' ? toBf16(numbers) : new Uint8Array(Uint16Array.from(numbers, f16Of).buffer);
  };
  const pool = drawPool(random, formatOf(format), headDim, pageTokens, pages);
  const size = outBytes(heads, headDim, parts, outType);
  const logitBytes = 4 * offsets[rows] * pageTokens * group;
  const leaves = element !== 'code' && logitBytes > 0 && random.integer(0, 3) === 0;
  const type = parts > 0 || outType === 0 ? 'f32' : outType === 1 ? 'bf16' : 'f16';
  return {
    label:
      `attend ${name} rows ${rows} group ${group} headDim ${headDim} pageTokens ${pageTokens} parts ${parts} ` +
      `outType ${outType} qType ${qType}${masked ? ' masked' : ''}${appends ? ' appends' : ''}` +
      `${leaves ? ' logits' : ''} tokens ${tokens.join(',')}`,
    buffers: {
      q: { tier: 'hbm', data: q },
      pool: { tier: 'hbm', data: pool },
      table: { tier: 'hbm', data: bytesOf(table) },
      offsets: { tier: 'hbm', data: bytesOf(offsets) },
      tokens: { tier: 'hbm', data: bytesOf(tokens) },
      ...(masked ? { mask: { tier: 'hbm' as const, data: bytesOf(mask) } } : {}),
      ...(appends
        ? {
            k: { tier: 'hbm' as const, data: halves() },
            v: { tier: 'hbm' as const, data: halves() },
            slots: { tier: 'hbm' as const, data: bytesOf(drawSlots(random, shape, drawn)) },
          }
        : {}),
      out: { tier: 'hbm', data: size },
      ...(leaves ? { logits: { tier: 'hbm' as const, data: logitBytes } } : {}),
    },
    ints: {
      ...shape,
      format,
      pageStride: pageStrideOf(formatOf(format), headDim, pageTokens),
      qType,
      outType,
      parts,
      part: parts > 0 ? random.integer(0, parts - 1) : 0,
      units: random.among([0, 0, 1, 3]),
    },
    reals: { scale: 0 },
    // Weights and values pass through 16-bit numbers on their way to the matrix units.
    outputs: [
      { ref: 'out', bytes: size, type, tolerance: 1e-2 },
      ...(appends ? [{ ref: 'pool', bytes: pool.length, type: 'u8' as const, tolerance: 0 }] : []),
      // Products are exact but for queries that are turned into numbers of the pages' kind: f16 to bf16, 2^-8 at most.
      ...(leaves
        ? [
            {
              ref: 'logits',
              bytes: logitBytes,
              type: 'f32' as const,
              tolerance: qType === 1 && element === 'bf16' ? 4e-3 : 1e-4,
            },
          ]
        : []),
    ],
  };
};

export const call = {
  name: 'attend',
  refs: ['q', 'pool', 'table', 'offsets', 'tokens', 'mask', 'out', 'k', 'v', 'slots', 'logits'],
  writes: ['pool', 'out', 'logits'],
  ints: [
    'rows',
    'group',
    'headDim',
    'pageTokens',
    'format',
    'pageStride',
    'qType',
    'outType',
    'parts',
    'part',
    'units',
  ],
  reals: ['scale'],
  optional: ['mask', 'k', 'v', 'slots', 'logits'],
  extents: ({ rows, group, headDim, outType, parts }) => ({
    q: rows * group * headDim * 2,
    offsets: 4 * (rows + 1),
    tokens: 4 * rows,
    k: 2 * rows * headDim,
    v: 2 * rows * headDim,
    slots: 4 * rows,
    out: outBytes(rows * group, headDim, parts, outType),
  }),
  reference(given) {
    const { rows, group, headDim, pageTokens, pageStride, qType } = given.ints;
    if (given.has('slots')) append.reference(given);
    const format = formatOf(given.ints.format);
    const { bytes: pageBytes } = layoutOf(format, headDim, pageTokens);
    const pool = given.bytes('pool');
    const [table, offsets, tokens] = ['table', 'offsets', 'tokens'].map((ref) => u32View(given.bytes(ref)));
    const mask = given.has('mask') ? u32View(given.bytes('mask')) : undefined;
    const logits = given.has('logits') ? f32View(given.bytes('logits')) : undefined;
    const q = u16View(given.bytes('q'));
    const number = qType === 0 ? ofBf16 : ofF16;
    const scale = (given.reals.scale ?? 0) === 0 ? 1 / Math.sqrt(headDim) : given.reals.scale;
    const decoded = new Map<number, Float64Array>();
    const pageOf = (page: number): Float64Array => {
      const start = page * pageStride;
      const numbers =
        decoded.get(page) ?? decodePage(pool.slice(start, start + pageBytes), format, headDim, pageTokens);
      decoded.set(page, numbers);
      return numbers;
    };
    for (let row = 0; row < rows; row++)
      for (let h = 0; h < group; h++) {
        const keys: Float64Array[] = [];
        const values: Float64Array[] = [];
        const read: number[] = [];
        for (let token = 0; token < tokens[row]; token++) {
          const entry = offsets[row] + Math.floor(token / pageTokens);
          if (mask !== undefined && ((mask[entry] >>> h) & 1) === 0) continue;
          const page = pageOf(table[entry]);
          const at = (token % pageTokens) * headDim;
          read.push(token);
          keys.push(page.subarray(at, at + headDim));
          values.push(page.subarray(pageTokens * headDim + at, pageTokens * headDim + at + headDim));
        }
        const head = row * group + h;
        const attended = attendHead((d) => number(q[head * headDim + d]), scale, keys, values, headDim);
        write(given, head, attended);
        if (logits === undefined) continue;
        const span = (offsets[row + 1] - offsets[row]) * pageTokens;
        const first = offsets[row] * pageTokens * group + h * span;
        attended.logits.forEach((logit, i) => {
          logits[first + read[i]] = logit;
        });
      }
  },
  randomCase: drawCase,
} satisfies KernelSpec;
