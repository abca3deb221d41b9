/**
 * Attention on host threads over single tokens in host memory, between two kernels, as in a step: each query head reads
 * tokens of its own, ascending, out of the context that its group shares; passes read different layers.
 */
import { FORMATS, pageStrideOf } from '../../kernels/formats.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { ascendingRows, chained, emptyOperation, type Microbench, powers, type Site } from './microbench.ts';

const GROUP = 4;
const ELEMENT_BYTES = 2;
/** Tokens of the context for each one that a head reads: policies that attend on the CPU read 2 to 5 % of it. */
const SPREAD = 24;
/** Bytes that the passes of a large site choose together: more than last-level caches keep (300 MiB on hosts of H100s), which a run of a GPU's host empties first as well (run.ts). */
const BYTES_CHOSEN = 2 ** 30;
/** Tokens that all heads of a site read in a pass, at most. */
const MOST_TOKENS = 2 ** 19;
const passesOf = (tokens: number, headDim: number): number =>
  Math.max(4, Math.min(32, Math.ceil(BYTES_CHOSEN / (2 * tokens * headDim * ELEMENT_BYTES))));

/** `heads` query heads, each over tokens of its own. */
const attendOf = (heads: number, tokens: number, headDim: number): Operation => ({
  kind: 'attend',
  sequences: 1,
  queries: 1,
  contextTokens: tokens,
  heads,
  kvHeads: heads,
  headDim,
  readBytes: { dram: 2 * heads * tokens * headDim * ELEMENT_BYTES },
  flops: 4 * heads * tokens * headDim,
  where: 'cpu',
  layer: 0,
  stream: 'cpu',
  after: [],
});

const siteOf = (heads: number, tokens: number, headDim: number, regionBytes: number): Site => {
  const passes = passesOf(heads * tokens, headDim);
  return {
    id: `${heads} heads x ${tokens} tokens of ${headDim}`,
    operations: [attendOf(heads, tokens, headDim), emptyOperation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const pageStride = pageStrideOf(FORMATS.bf16, headDim, 1);
      const context = SPREAD * tokens;
      const layerPages = Math.ceil(heads / GROUP) * context;
      const layers = Math.max(1, Math.floor(regionBytes / pageStride / layerPages));
      // Where the tokens of a head begin, in a pass, and which of them it reads.
      const tableOf = (pass: number): Uint32Array => {
        const table = new Uint32Array(heads * tokens);
        for (let head = 0; head < heads; head++) {
          const first = (pass % layers) * layerPages + Math.floor(head / GROUP) * context;
          const chosen = ascendingRows(tokens, context, pass * heads + head);
          table.set(
            chosen.map((token) => first + token),
            head * tokens,
          );
        }
        return table;
      };
      const q = layout.place('host', ELEMENT_BYTES * heads * headDim);
      const pool = layout.place('host', regionBytes);
      const out = layout.place('hostOutputs', 4 * heads * (headDim + 2));
      const offsets = layout.table(
        'hostTables',
        Array.from({ length: heads + 1 }, (_, head) => head * tokens),
      );
      const counts = layout.table('hostTables', new Uint32Array(heads).fill(tokens));
      const tables = Array.from({ length: passes }, (_, pass) => layout.table('hostTables', tableOf(pass)));
      return chained(
        passes,
        (pass) => ({
          kernel: 'attend',
          refs: { q, pool, table: tables[pass], offsets, tokens: counts, out },
          ints: {
            rows: heads,
            group: 1,
            headDim,
            pageTokens: 1,
            format: FORMATS.bf16.id,
            pageStride,
            qType: 0,
            outType: 0,
            parts: 1,
            part: 0,
            units: 0,
          },
          reals: { scale: 0 },
        }),
        'cpu',
      );
    },
  };
};

export const microbench = {
  name: 'host-kernel/attend',
  number: 12,
  title: 'attention on host threads',
  kernels: ['attend', 'empty'],
  sites: ({ dramBytes }) => {
    const regionBytes = Math.min(2 ** 32, dramBytes / 2);
    const cases = [64, 128].flatMap((headDim) =>
      [16, 64, 256].flatMap((heads) =>
        powers(32, 8192, 4)
          .filter((tokens) => heads * tokens <= MOST_TOKENS)
          .map((tokens) => [heads, tokens, headDim] as const),
      ),
    );
    return cases
      .filter(([heads, tokens, headDim]) => (heads / GROUP) * SPREAD * tokens * 4 * headDim <= regionBytes)
      .map(([heads, tokens, headDim]) => siteOf(heads, tokens, headDim, regionBytes));
  },
} satisfies Microbench;
