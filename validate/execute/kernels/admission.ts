/** WG-KV's admission: the gate's network, and the step of a row's ring to its pages. */
import { countOf, type KernelBinder, shapeOf } from './kernel-use.ts';

const EPSILON = 1e-6;
const PAGE_TOKENS = 16;
/** Pages that a row's table names: more than any run of steps fills. */
const TABLE_PAGES = 4096;

export const gate: KernelBinder = (use) => {
  const { binding, batch, kvHeads, headDim } = use;
  const tokens = batch * countOf(use, 'tokens');
  const hidden = shapeOf(use, 'hidden');
  if (tokens < 1 || hidden < 8) return null;
  const place = (count: number) => binding.layout.place('kv', 2 * count);
  binding.add('gate', {
    refs: {
      before: place(tokens * kvHeads * headDim),
      after: place(tokens * kvHeads * headDim),
      norms: place(2 * headDim),
      w1: place(kvHeads * hidden * 2 * headDim),
      b1: place(kvHeads * hidden),
      w2: place(kvHeads * hidden),
      b2: place(kvHeads),
      scores: binding.layout.place('outputs', 4 * tokens * kvHeads),
    },
    ints: { tokens, kvHeads, headDim, hidden },
    reals: { epsilon: EPSILON },
  });
  const weights = kvHeads * (2 * headDim * hidden + 2 * hidden + 1) + 2 * headDim;
  return { read: 2 * (weights + 2 * tokens * kvHeads * headDim), write: 4 * tokens * kvHeads };
};

export const ringToPage: KernelBinder = (use) => {
  const { binding, rows, headDim } = use;
  const moved = Math.round(rows * (use.call.counts.tokens ?? 0));
  const window = shapeOf(use, 'window', PAGE_TOKENS);
  const ringPages = Math.ceil(window / PAGE_TOKENS);
  const pageBytes = 4 * headDim * PAGE_TOKENS;
  const { layout } = binding;
  const pages = rows * (ringPages + 2);
  // A row's ring, and two pages that its tokens go round in.
  const ring = Uint32Array.from({ length: rows * ringPages }, (_, i) => i);
  const table = () =>
    layout.table(
      'tables',
      Uint32Array.from(
        { length: rows * TABLE_PAGES },
        (_, i) => rows * ringPages + 2 * Math.floor(i / TABLE_PAGES) + (i % 2),
      ),
    );
  const flags = new Uint8Array(4 * Math.ceil((rows * window) / 4));
  for (let row = 0; row < moved; row++) flags[row * window] = 1;
  binding.add('ring-to-page', {
    refs: {
      pool: layout.place('kv', pages * pageBytes),
      ring: layout.table('tables', ring),
      flags: layout.table('tables', new Uint32Array(flags.buffer)),
      table: binding.once('pages', table),
      counts: layout.table('tables', new Uint32Array(rows)),
    },
    ints: { rows, slot: 0, window, pageTokens: PAGE_TOKENS, headDim, pageBytes, tableStride: TABLE_PAGES },
  });
  return { read: moved * 4 * headDim, write: moved * 4 * headDim };
};
