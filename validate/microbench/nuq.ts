/** Attention that looks non-uniform codes up, and the coding of new tokens into them: KVQuant's 4 bits, keys turned. */
import { NUQ_PAGE_TOKENS, nuqBookBytes, nuqLayout } from '../../kernels/nuq.ts';
import { codec as nuq4 } from '../../sim/policy/codecs/nuq4.ts';
import { codeBeforeRope } from '../../sim/policy/coded-tail.ts';
import type { EncodeOperation } from '../../sim/program/operation.ts';
import { Binding } from '../execute/binding.ts';
import type { Layout } from '../execute/memory.ts';
import { bindNuqEncode, type NuqForm, nuqBytes, nuqFormOf } from '../execute/nuq-form.ts';
import { codedOperation, LLAMA } from './attend.ts';
import { type Bounds, type Microbench, passesFor, powers, repeated, type Site } from './microbench.ts';

const NAME = 'nuq4';
const { heads, kvHeads, headDim } = LLAMA;
const codec = codeBeforeRope(nuq4, { frequencies: new Float64Array(), gapToken: 0, gapTokens: 0 });
const form = nuqFormOf(
  {
    name: NAME,
    kBytesPerToken: codec.kBytesPerToken(headDim),
    vBytesPerToken: codec.vBytesPerToken(headDim),
    isTurned: true,
  },
  headDim,
  NUQ_PAGE_TOKENS,
);

const attendCall = (layout: Layout, own: NuqForm, rows: number, context: number) => {
  const pages = Math.ceil(context / NUQ_PAGE_TOKENS);
  const { bits, outliers } = own;
  return {
    kernel: 'nuq-attend',
    refs: {
      q: layout.place('kv', (2 * rows * heads * headDim) / kvHeads),
      pool: layout.place('codes', nuqBytes(own, rows * pages * NUQ_PAGE_TOKENS)),
      books: layout.place('kv', rows * nuqBookBytes(headDim, bits)),
      // Pages lie scattered, as an allocator leaves them.
      table: layout.table(
        'tables',
        Uint32Array.from({ length: rows * pages }, (_, at) => (at % pages) * rows + Math.floor(at / pages)),
      ),
      offsets: layout.table(
        'tables',
        Uint32Array.from({ length: rows + 1 }, (_, row) => row * pages),
      ),
      tokens: layout.table('tables', new Uint32Array(rows).fill(context)),
      out: layout.place('outputs', (4 * rows * heads * headDim) / kvHeads),
    },
    ints: {
      rows,
      group: heads / kvHeads,
      headDim,
      bits,
      outliers,
      pageStride: nuqLayout(own).stride,
      first: 0,
      outType: 1,
      parts: 0,
      part: 0,
    },
    reals: { theta: 500_000 },
  };
};

const attendSite = (bounds: Bounds, own: NuqForm, batch: number, context: number): Site => {
  const shape = { ...LLAMA, batch, context, pageTokens: NUQ_PAGE_TOKENS };
  const operation = codedOperation(shape, NAME, codec);
  const passes = passesFor(operation.readBytes.hbm ?? 1, bounds, 32);
  return {
    law: 'attend',
    id: `batch ${batch} context ${context} heads ${heads}/${kvHeads} x ${headDim} ${NAME}`,
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: passes }, () => attendCall(layout, own, batch * kvHeads, context));
      return repeated(passes, (pass) => all[pass], 'compute');
    },
  };
};

const encodeSite = (bounds: Bounds, own: NuqForm, rows: number, count: number): Site => {
  const tokens = rows * count;
  const inBytes = 4 * headDim * tokens;
  const operation: EncodeOperation = {
    kind: 'encode',
    codec: NAME,
    inBytes,
    outBytes:
      tokens * (codec.kBytesPerToken(headDim) + codec.vBytesPerToken(headDim) + codec.scaleBytes(headDim, 1)),
    flops: tokens * codec.decodeFlopsPerToken(headDim),
    layer: 0,
    stream: 'compute',
    after: [],
  };
  const passes = passesFor(inBytes, bounds, 32);
  return {
    law: 'kernel/encode',
    id: `${NAME} ${rows} rows x ${count}`,
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const operations = Array.from({ length: passes }, () => operation);
      const binding = new Binding(operations, layout);
      operations.forEach((_, at) => {
        binding.begin(at);
        bindNuqEncode(binding, own, rows, count);
        binding.end();
      });
      return binding.calls;
    },
  };
};

export const microbench = {
  name: 'nuq',
  number: 10,
  title: 'non-uniform codes',
  kernels: ['nuq-attend', 'nuq-encode'],
  sites: (bounds) =>
    form === null
      ? []
      : [
          ...[1, 8].flatMap((batch) =>
            powers(544, 2 ** 17, 2).map((context) => attendSite(bounds, form, batch, context)),
          ),
          ...powers(1088, 2 ** 15, 4).map((context) => attendSite(bounds, form, 32, context)),
          ...powers(8, 2 ** 10, 2).map((rows) => encodeSite(bounds, form, rows, 1)),
          ...[16, 64, 128, 256, 512, 1024].map((count) => encodeSite(bounds, form, 8, count)),
        ].filter(
          ({ operations: [operation] }) =>
            operation.kind !== 'attend' || (operation.readBytes.hbm ?? 0) <= bounds.hbmBytes / 2,
        ),
} satisfies Microbench;
