/**
 * Decode attention over KV in several stored forms: a kernel a form, each after another one, and the merge of what they
 * leave. What a kernel takes behind one like it, other sites show.
 */
import type { FormatName } from '../../kernels/formats.ts';
import type { AttendOperation } from '../../sim/program/operation.ts';
import { type AttendSite, LLAMA, operationOf, PAGE_TOKENS, refsOf } from './attend.ts';
import { type Bounds, type Microbench, passesFor, powers, type Site } from './microbench.ts';

/** Tokens of a row by form. */
type Forms = readonly (readonly [FormatName, number])[];

const LEAST_PASSES = 4;

const partsOf = (batch: number, forms: Forms): readonly AttendSite[] =>
  forms.map(([form, context]) => ({ ...LLAMA, batch, context, pageTokens: PAGE_TOKENS, form }));

/** One attention that reads all of them. */
const joined = (parts: readonly AttendSite[]): AttendOperation => {
  const all = parts.map(operationOf);
  const contextTokens = parts.reduce((sum, { context }) => sum + context, 0);
  return {
    ...all[0],
    contextTokens,
    readBytes: { hbm: all.reduce((sum, { readBytes }) => sum + (readBytes.hbm ?? 0), 0) },
    flops: all.reduce((sum, { flops }) => sum + flops, 0),
    coded: all.flatMap(({ coded = [] }, at) =>
      coded.map((one) => ({ ...one, share: parts[at].context / contextTokens })),
    ),
  };
};

const siteOf = (bounds: Bounds, batch: number, forms: Forms): Site => {
  const parts = partsOf(batch, forms);
  const operation = joined(parts);
  const copies = passesFor(operation.readBytes.hbm ?? 1, bounds, 32);
  const passes = Math.max(bounds.backend === 'cuda' ? LEAST_PASSES : 1, copies);
  const { heads, headDim } = LLAMA;
  const rows = batch * heads;
  return {
    id: `batch ${batch} ${forms.map(([form, context]) => `${context} ${form}`).join(' + ')}`,
    operations: [operation],
    passes,
    options: { graph: true },
    build: (layout) => {
      const all = Array.from({ length: copies }, () => {
        const partials = layout.place('outputs', 4 * rows * parts.length * (headDim + 2));
        return {
          attends: parts.map((one, part) => {
            const { refs, ints } = refsOf(layout, one);
            return { refs: { ...refs, out: partials }, ints: { ...ints, part, parts: parts.length } };
          }),
          merge: { partials, out: layout.place('outputs', 4 * rows * headDim) },
        };
      });
      const ints = { rows, parts: parts.length, headDim };
      const [stream, after, reals] = ['compute', [], { scale: 0 }] as const;
      return Array.from({ length: passes }, (_, pass) => all[pass % copies]).flatMap(({ attends, merge }) => [
        ...attends.map((one) => ({ kernel: 'attend' as const, ...one, reals, stream, after })),
        { kernel: 'merge' as const, refs: merge, ints, stream, after },
      ]);
    },
  };
};

/** Coded tokens with a tail that waits to be coded, its keys perhaps before its values. */
const FORMS: readonly ((tokens: number) => Forms)[] = [
  (tokens) => [
    ['int2', tokens],
    ['int2-keys', 127],
    ['bf16', 2],
  ],
  (tokens) => [
    ['int4', tokens],
    ['bf16', 40],
  ],
  (tokens) => [
    ['int8', tokens],
    ['bf16', 100],
  ],
];

export const microbench = {
  name: 'attend-forms',
  number: 10,
  title: 'attention over several forms',
  kernels: ['attend', 'merge'],
  sites: (bounds) =>
    FORMS.flatMap((forms) =>
      [1, 6].flatMap((batch) =>
        powers(1024, 2 ** 16, 4).map((tokens) => siteOf(bounds, batch, forms(tokens + 64))),
      ),
    ),
} satisfies Microbench;
