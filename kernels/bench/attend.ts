/** Decode attention over paged KV: models' head shapes, contexts and batches, raw and coded pages, token lists. */
import type { Backend } from '../backend.ts';
import { distinct } from '../calls/random-rows.ts';
import { FORMATS, type FormatName, layoutOf, pageStrideOf } from '../formats.ts';
import { createRandom } from '../random.ts';
import { callOf, type KernelBench, type Memory, rotations, type Site } from './site.ts';

interface Shape {
  readonly batch: number;
  readonly context: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageTokens: number;
  readonly format: FormatName;
}

/** Pages of normal numbers, coded by the backend's own codec where the format is coded. */
const poolOf = async (memory: Memory, shape: Shape, pages: number) => {
  const { headDim, pageTokens, format } = shape;
  const stride = pageStrideOf(FORMATS[format], headDim, pageTokens);
  if (FORMATS[format].element !== 'code')
    return memory.fill(pages * stride, `normal-${FORMATS[format].element}`);
  const rawStride = pageStrideOf(FORMATS.bf16, headDim, pageTokens);
  const slice = Math.min(pages, Math.ceil(2 ** 26 / rawStride));
  const source = await memory.fill(slice * rawStride, 'normal-bf16');
  const target = await memory.fill(pages * stride, 'poison');
  for (let first = 0; first < pages; first += slice) {
    const ints = {
      pages: Math.min(slice, pages - first),
      headDim,
      pageTokens,
      sourceFormat: FORMATS.bf16.id,
      format: FORMATS[format].id,
      sourceStride: rawStride,
      targetStride: stride,
      halves: 0,
      from: 0,
      to: 0,
    };
    await memory.run([callOf('encode', { source, target: { ...target, offset: first * stride } }, ints)]);
  }
  return target;
};

const build = async (backend: Backend, memory: Memory, shape: Shape, bytes: number) => {
  const { batch, context, heads, kvHeads, headDim, pageTokens, format } = shape;
  const rows = batch * kvHeads;
  const pagesOfRow = Math.ceil(context / pageTokens);
  const pages = rows * pagesOfRow;
  const random = createRandom(42);
  const offsets = await memory.words(Uint32Array.from({ length: rows + 1 }, (_, row) => row * pagesOfRow));
  const tokens = await memory.words(new Uint32Array(rows).fill(context));
  const q = await memory.fill(2 * batch * heads * headDim, 'normal-bf16');
  const out = await memory.fill(2 * batch * heads * headDim, 'poison');
  const ints = {
    rows,
    group: heads / kvHeads,
    headDim,
    pageTokens,
    format: FORMATS[format].id,
    pageStride: pageStrideOf(FORMATS[format], headDim, pageTokens),
    qType: 0,
    outType: 1,
    parts: 0,
    part: 0,
    units: 0,
  };
  const calls = [];
  for (let turn = 0; turn < rotations(backend, bytes); turn++) {
    const pool = await poolOf(memory, shape, pages);
    const table = await memory.words(distinct(random, pages, pages));
    calls.push(callOf('attend', { q, pool, table, offsets, tokens, out }, ints, { scale: 0 }));
  }
  return calls;
};

const siteOf = (backend: Backend, shape: Shape): Site => {
  const { batch, context, heads, kvHeads, headDim, pageTokens, format } = shape;
  const page = layoutOf(FORMATS[format], headDim, pageTokens).bytes;
  const bytes = batch * kvHeads * (context / pageTokens) * page;
  return {
    label: `${format} ${batch} x ${context}, ${heads}/${kvHeads} heads of ${headDim}, pages of ${pageTokens}`,
    bytes,
    footprint: bytes * rotations(backend, bytes) + 2 ** 27,
    build: (memory) => build(backend, memory, shape, bytes),
  };
};

const llama8b = { heads: 32, kvHeads: 8, headDim: 128 };
const llama70b = { heads: 64, kvHeads: 8, headDim: 128 };
const qwen05b = { heads: 14, kvHeads: 2, headDim: 64 };

/** Sites of a GPU; a CPU gets those that fit its memory and patience. */
const SHAPES: readonly Shape[] = [
  ...[
    [1, 4096],
    [1, 32_768],
    [1, 131_072],
    [1, 524_288],
    [8, 32_768],
    [64, 1024],
    [64, 4096],
  ].map(([batch, context]) => ({ ...llama8b, batch, context, pageTokens: 16, format: 'bf16' as const })),
  { ...llama8b, batch: 8, context: 32_768, pageTokens: 1, format: 'bf16' },
  { ...llama8b, batch: 8, context: 32_768, pageTokens: 64, format: 'bf16' },
  { ...llama70b, batch: 16, context: 32_768, pageTokens: 16, format: 'bf16' },
  { ...qwen05b, batch: 1, context: 524_288, pageTokens: 16, format: 'bf16' },
  { ...qwen05b, batch: 16, context: 32_768, pageTokens: 16, format: 'bf16' },
  ...(['int8', 'k8v4', 'int4', 'int4-token', 'int2'] as const).map((format) => ({
    ...llama8b,
    batch: 32,
    context: 32_768,
    pageTokens: 64,
    format,
  })),
];

export const bench = {
  kernel: 'attend',
  sites: (backend) => SHAPES.map((shape) => siteOf(backend, shape)),
} satisfies KernelBench;
