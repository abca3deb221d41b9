/** Decode attention over paged KV in device memory: sequences, context, head shapes; pages and single tokens. */
import { FORMATS } from '../../kernels/formats.ts';
import { attendOf } from '../../sim/timing/cost-cases.ts';
import type { Layout } from '../execute/memory.ts';
import { type Bounds, type Microbench, passesFor, powers, repeated, type Site } from './microbench.ts';

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const SHAPES: readonly Heads[] = [
  { heads: 32, kvHeads: 8, headDim: 128 },
  { heads: 14, kvHeads: 2, headDim: 64 },
];
const ELEMENT_BYTES = 2;

const refsOf = (layout: Layout, batch: number, context: number, pageTokens: number, shape: Heads) => {
  const { heads, kvHeads, headDim } = shape;
  const rows = batch * kvHeads;
  const pages = Math.ceil(context / pageTokens);
  const pageStride = pageTokens * 2 * headDim * ELEMENT_BYTES;
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
      out: layout.place('scores', batch * heads * headDim * 4),
    },
    ints: {
      rows,
      group: heads / kvHeads,
      headDim,
      pageTokens,
      pageStride,
      format: FORMATS.bf16.id,
      qType: 0,
      outType: 0,
      part: 0,
      parts: 0,
      units: 0,
    },
  };
};

const siteOf = (bounds: Bounds, batch: number, context: number, pageTokens: number, shape: Heads): Site => {
  const operation = attendOf({ ...shape, batch, context, elementBytes: ELEMENT_BYTES });
  const passes = passesFor(operation.readBytes.hbm ?? 1, bounds, 32);
  return {
    id: `batch ${batch} context ${context} heads ${shape.heads}/${shape.kvHeads} x ${shape.headDim} pages of ${pageTokens}`,
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: passes }, () => refsOf(layout, batch, context, pageTokens, shape));
      return repeated(passes, (pass) => ({ kernel: 'attend', ...all[pass], reals: { scale: 0 } }), 'compute');
    },
  };
};

export const microbench = {
  name: 'attend',
  number: 10,
  title: 'decode attention',
  kernels: ['attend'],
  sites: (bounds) => {
    const fits = ({ operations: [operation] }: Site): boolean =>
      operation.kind === 'attend' && (operation.readBytes.hbm ?? 0) <= bounds.hbmBytes / 2;
    const pages = SHAPES.flatMap((shape) =>
      [1, 4, 16, 64].flatMap((batch) =>
        powers(1024, 524_288, 4).map((context) => siteOf(bounds, batch, context, 16, shape)),
      ),
    );
    const tokens = [256, 1024, 4096].flatMap((context) =>
      [1, 8].map((batch) => siteOf(bounds, batch, context, 1, SHAPES[0])),
    );
    return [...pages, ...tokens].filter(fits);
  },
} satisfies Microbench;
