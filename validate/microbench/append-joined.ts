/** New tokens' K and V that attention writes into pages before it reads them: what that adds to attention alone. */
import { type AttendSite, LLAMA, operationOf, PAGE_TOKENS, QWEN, refsOf } from './attend.ts';
import { type Bounds, type Microbench, passesFor, repeated, type Site } from './microbench.ts';

/** Calls of a GPU's graph at least: first pages come while the kernel before ends. */
const LEAST_CALLS = 8;

/**
 * Sequences and tokens of each, among those that attention alone is timed at, so that its law says little wrong of them:
 * few rows whose tokens all blocks share, and blocks that have rows of their own. Of 8 rows new tokens add 1.5 us, of 32
 * rows 2.6, of 128 rows 1.0 (H100 and H200): rows between, and narrow heads, say where that changes.
 */
const usual = { ...LLAMA, pageTokens: PAGE_TOKENS, form: 'bf16' } as const;
const sized = (
  shape: Omit<AttendSite, 'batch' | 'context'>,
  batches: readonly number[],
  contexts: readonly number[],
) => batches.flatMap((batch) => contexts.map((context): AttendSite => ({ ...shape, batch, context })));
const SITES: readonly AttendSite[] = [
  ...sized(usual, [1, 4, 16, 64], [320, 1088, 2112]),
  ...sized({ ...usual, heads: 64 }, [2, 3, 12], [516, 2050]),
  ...sized({ ...usual, ...QWEN }, [4, 16], [320, 2112]),
];

const nameOf = ({ batch, context, heads, kvHeads, headDim }: AttendSite): string =>
  [
    `batch ${batch} context ${context}`,
    ...(heads === LLAMA.heads ? [] : [`heads ${heads}/${kvHeads} x ${headDim}`]),
  ].join(' ');

const siteOf = (bounds: Bounds, one: AttendSite): Site => {
  const { batch, context, kvHeads, headDim } = one;
  const attend = operationOf(one);
  const rows = batch * kvHeads;
  const rowBytes = 2 * headDim;
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
    id: nameOf(one),
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
    SITES.map((one) => siteOf(bounds, one)).filter(
      ({ operations: [, attend] }) =>
        attend.kind === 'attend' && (attend.readBytes.hbm ?? 0) <= bounds.hbmBytes / 2,
    ),
} satisfies Microbench;
