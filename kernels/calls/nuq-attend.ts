/**
 * Decode attention over pages of non-uniform codes (nuq.ts), which it looks up: KVQuant's products of queries with keys and
 * of shares with values, with its sparse outliers (arXiv 2401.18079 section 3.4), in one pass. q bf16 [rows, group,
 * headDim]; pages of row r are table[offsets[r] .. offsets[r + 1]), of their tokens the first tokens[r]; books [rows].
 * theta > 0: keys are as they were before rotary embedding (pairs i and i + headDim / 2), token t of a row turns to
 * position first + t. Logits are scaled by 1 / sqrt(headDim). out, parts and part as in `attend`, outType 0 f32, 1 bf16.
 * headDim 64, 128 or 256, bits 2 to 4, group <= 32.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f16Of, f32View, fromBf16, toBf16, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';
import {
  decodeNuqPage,
  drawNuqBook,
  NUQ_PAGE_TOKENS,
  nuqBook,
  nuqBookBytes,
  nuqLayout,
  nuqPlace,
} from '../nuq.ts';
import type { Random } from '../random.ts';
import { distinct } from './random-rows.ts';

/** Turns pairs of a key to its position. */
const turn = (key: Float64Array, position: number, theta: number): void => {
  const pairs = key.length / 2;
  for (let i = 0; i < pairs; i++) {
    const angle = position * theta ** (-i / pairs);
    const [a, b] = [key[i], key[i + pairs]];
    key[i] = a * Math.cos(angle) - b * Math.sin(angle);
    key[i + pairs] = a * Math.sin(angle) + b * Math.cos(angle);
  }
};

/** Outliers and ranges of random pages; codes may be any bytes. */
const drawPages = (random: Random, pages: number, shape: Parameters<typeof nuqLayout>[0]): Uint8Array => {
  const { stride, ranges, keyOutliers, valueOutliers } = nuqLayout(shape);
  const pool = Uint8Array.from({ length: pages * stride }, () => random.integer(0, 255));
  const halves = new Uint16Array(pool.buffer);
  for (let page = 0; page < pages; page++) {
    const at = page * stride;
    for (let token = 0; token < NUQ_PAGE_TOKENS; token++) {
      halves[(at + ranges) / 2 + 2 * token] = f16Of(random.uniform() - 0.5);
      halves[(at + ranges) / 2 + 2 * token + 1] = f16Of(1 + random.uniform());
      for (const start of [keyOutliers, valueOutliers])
        for (let i = nuqPlace(token, shape.outliers); i < nuqPlace(token + 1, shape.outliers); i++) {
          const pair = (at + start) / 2 + 2 * i;
          halves[pair] = random.integer(0, shape.headDim - 1);
          halves[pair + 1] = random.integer(0, 2) === 0 ? 0 : f16Of(3 * random.normal());
        }
    }
  }
  return pool;
};

export const call = {
  name: 'nuq-attend',
  refs: ['q', 'pool', 'books', 'table', 'offsets', 'tokens', 'out'],
  writes: ['out'],
  ints: ['rows', 'group', 'headDim', 'bits', 'outliers', 'pageStride', 'first', 'outType', 'parts', 'part'],
  reals: ['theta'],
  extents: ({ rows, group, headDim, bits, outType, parts }) => ({
    q: 2 * rows * group * headDim,
    books: rows * nuqBookBytes(headDim, bits),
    offsets: 4 * (rows + 1),
    tokens: 4 * rows,
    out: rowsExtent(
      rows * group,
      parts > 0 ? 4 * parts * (headDim + 2) : (outType === 0 ? 4 : 2) * headDim,
      parts > 0 ? 4 * parts * (headDim + 2) : (outType === 0 ? 4 : 2) * headDim,
    ),
  }),
  reference({ ints, reals: { theta }, bytes }) {
    const { rows, group, headDim, bits, outliers, pageStride, first, outType, parts, part } = ints;
    const queries = fromBf16(bytes('q'), rows * group * headDim);
    const [table, offsets, tokens] = ['table', 'offsets', 'tokens'].map((ref) => u32View(bytes(ref)));
    const shape = { headDim, bits, outliers };
    const bookBytes = nuqBookBytes(headDim, bits);
    /** Keys and values of a row, keys at their positions. */
    const decoded = (row: number): readonly [Float64Array[], Float64Array[]] => {
      const book = nuqBook(bytes('books').subarray(row * bookBytes), headDim, bits);
      const [keys, values]: [Float64Array[], Float64Array[]] = [[], []];
      for (let token = 0; token < tokens[row]; token++) {
        const i = token % NUQ_PAGE_TOKENS;
        if (i === 0) {
          const at = table[offsets[row] + token / NUQ_PAGE_TOKENS] * pageStride;
          page = decodeNuqPage(bytes('pool').slice(at, at + nuqLayout(shape).bytes), shape, book);
        }
        const key = page.subarray(i * headDim, (i + 1) * headDim);
        if (theta > 0) turn(key, first + token, theta);
        keys.push(key);
        values.push(page.subarray((NUQ_PAGE_TOKENS + i) * headDim, (NUQ_PAGE_TOKENS + i + 1) * headDim));
      }
      return [keys, values];
    };
    let page: Float64Array = new Float64Array();
    let [keys, values]: readonly [Float64Array[], Float64Array[]] = [[], []];
    for (let head = 0; head < rows * group; head++) {
      if (head % group === 0) [keys, values] = decoded(head / group);
      const o = new Float64Array(headDim);
      const logits = keys.map((key) => {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += queries[head * headDim + c] * key[c];
        return dot / Math.sqrt(headDim);
      });
      const m = logits.length === 0 ? 0 : logits.reduce((a, b) => Math.max(a, b));
      let l = 0;
      logits.forEach((logit, token) => {
        const share = Math.exp(logit - m);
        l += share;
        for (let c = 0; c < headDim; c++) o[c] += share * values[token][c];
      });
      if (parts > 0) {
        f32View(bytes('out')).set([...o, m, l], (head * parts + part) * (headDim + 2));
        continue;
      }
      const result = o.map((x) => (l > 0 ? x / l : 0));
      if (outType === 0) f32View(bytes('out')).set(result, head * headDim);
      else bytes('out').set(toBf16(result), 2 * head * headDim);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const group = random.among([1, 2, 4, 7, 8, 12]);
    const shape = {
      headDim: random.among([64, 128, 256]),
      bits: random.integer(2, 4),
      outliers: random.integer(0, 150),
    };
    const { headDim, bits, outliers } = shape;
    const tokens = Uint32Array.from({ length: rows }, () =>
      random.integer(0, 7) === 0 ? 0 : random.integer(1, rows === 1 ? 2000 : 300),
    );
    const offsets = new Uint32Array(rows + 1);
    for (let row = 0; row < rows; row++)
      offsets[row + 1] = offsets[row] + Math.ceil(tokens[row] / NUQ_PAGE_TOKENS);
    const pages = Math.max(1, offsets[rows] + random.integer(0, 2));
    const table = distinct(random, pages, pages);
    const parts = random.integer(0, 1) === 0 ? random.integer(1, 3) : 0;
    const outType = random.integer(0, 1);
    const heads = rows * group;
    const bytes = parts > 0 ? 4 * heads * parts * (headDim + 2) : heads * headDim * (outType === 0 ? 4 : 2);
    const books = new Uint8Array(rows * nuqBookBytes(headDim, bits));
    for (let row = 0; row < rows; row++)
      books.set(drawNuqBook(random, shape), row * nuqBookBytes(headDim, bits));
    return {
      label: `nuq-attend rows ${rows} group ${group} headDim ${headDim} bits ${bits} outliers ${outliers} tokens ${tokens} parts ${parts}`,
      buffers: {
        q: { tier: 'hbm', data: randomBf16(random, heads * headDim) },
        pool: { tier: 'hbm', data: drawPages(random, pages, shape) },
        books: { tier: 'hbm', data: books },
        table: { tier: 'hbm', data: u32Bytes(table) },
        offsets: { tier: 'hbm', data: u32Bytes(offsets) },
        tokens: { tier: 'hbm', data: u32Bytes(tokens) },
        out: { tier: 'hbm', data: bytes },
      },
      ints: {
        rows,
        group,
        headDim,
        bits,
        outliers,
        pageStride: nuqLayout(shape).stride,
        first: random.integer(0, 70_000),
        outType,
        parts,
        part: parts > 0 ? random.integer(0, parts - 1) : 0,
      },
      reals: { theta: random.among([0, 10_000, 500_000]) },
      outputs: [{ ref: 'out', bytes, type: parts > 0 || outType === 0 ? 'f32' : 'bf16', tolerance: 1e-2 }],
    };
  },
} satisfies KernelSpec;
