/** New tokens' K and V that attention writes into pages before it reads them: what that adds to attention alone. */
import { type AttendSite, LLAMA, operationOf, PAGE_TOKENS, refsOf } from './attend.ts';
import { type Bounds, type Microbench, passesFor, repeated, type Site } from './microbench.ts';

/** Calls of a GPU's graph at least: first pages come while the kernel before ends. */
const LEAST_CALLS = 8;

/**
 * Sequences and tokens of each, among those that attention alone is timed at, so that its law says little wrong of them:
 * few rows whose tokens all blocks share, and blocks that have rows of their own.
 */
const SIZES = [1, 4, 16, 64].flatMap((batch) =>
  [320, 1088, 2112].map((context) => [batch, context] as const),
);

const siteOf = (bounds: Bounds, batch: number, context: number): Site => {
  const one: AttendSite = { ...LLAMA, batch, context, pageTokens: PAGE_TOKENS, form: 'bf16' };
  const attend = operationOf(one);
  const rows = batch * LLAMA.kvHeads;
  const rowBytes = 2 * LLAMA.headDim;
  const copies = passesFor(attend.readBytes.hbm ?? 1, bounds, 32);
  const passes = Math.max(bounds.backend === 'cuda' ? LEAST_CALLS : 1, copies);
  // Pages as refsOf() lays them: the last of row r is the r-th of the last lot.
  const pages = Math.ceil(context / PAGE_TOKENS);
  const place = (context - 1) % PAGE_TOKENS;
  const slots = Uint32Array.from(
    { length: rows },
    (_, row) => ((pages - 1) * rows + row) * PAGE_TOKENS + place,
  );
  return {
    id: `batch ${batch} context ${context}`,
    operations: [
      { kind: 'append', bytes: 2 * rows * rowBytes, layer: 0, stream: 'compute', after: [] },
      { ...attend, layer: 0 },
    ],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: copies }, () => {
        const { refs, ints } = refsOf(layout, one);
        const [k, v] = [layout.place('kv', rows * rowBytes), layout.place('kv', rows * rowBytes)];
        return { refs: { ...refs, k, v, slots: layout.table('tables', slots) }, ints };
      });
      return repeated(
        passes,
        (pass) => ({ kernel: 'attend', ...all[pass % copies], reals: { scale: 0 } }),
        'compute',
      );
    },
  };
};

export const microbench = {
  name: 'kernel/append.joined',
  number: 10,
  title: 'new tokens that attention takes along',
  kernels: ['attend'],
  sites: (bounds) =>
    SIZES.filter(
      ([batch, context]) => 4 * LLAMA.kvHeads * LLAMA.headDim * batch * context <= bounds.hbmBytes / 2,
    ).map(([batch, context]) => siteOf(bounds, batch, context)),
} satisfies Microbench;
