/**
 * Attention as calls: every attention of a layer over the page tables of what it covers, one call a stored form, and the
 * merge of what is in parts. A form that no kernel reads is stood in for by work that reads its bytes.
 */
import type { Ref } from '../../kernels/calls.ts';
import { type Format, pageStrideOf } from '../../kernels/formats.ts';
import { nuqBookBytes, nuqLayout } from '../../kernels/nuq.ts';
import type { AttendOperation, Operation } from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import { LOGITS } from './kernels/kernel-use.ts';
import { plus } from './memory.ts';
import type { NuqForm } from './nuq-form.ts';
import { once } from './once.ts';
import { type PageTables, pageTablesOf, type Row, rowAt, type Spans, spansOf } from './segments.ts';

/** What one attention reads of one stored form. */
export interface FormRows {
  readonly form: number;
  /** Null = no kernel reads it. */
  readonly format: Format | null;
  /** Pages of non-uniform codes, which a kernel of their own reads; null = none. */
  readonly nuq: NuqForm | null;
  readonly pageTokens: number;
  /** Start of the pool that slots count from, and bytes of a slot where there is no format. */
  readonly pool: Ref;
  readonly slotBytes: number;
  /** Per (sequence, head). */
  readonly rows: readonly Row[];
}

/** One attention operation with the rows of each form that it reads. */
export interface Attended {
  readonly at: number;
  readonly operation: AttendOperation;
  readonly forms: readonly FormRows[];
}

/** Attention of a layer, to be merged where it is in parts. */
export interface AttentionGroup {
  readonly headDim: number;
  /** Query heads of one row. */
  readonly group: number;
  readonly rows: number;
  readonly attended: readonly Attended[];
  readonly queries: Ref;
  /** The queries' copy in host memory, and where the CPU leaves its partial outputs. */
  readonly hostQueries: Ref | null;
  readonly hostPartials: Ref | null;
  readonly partials: Ref;
  readonly out: Ref;
  /** Whether a later call of the layer takes the logits of its attention. */
  readonly leavesLogits: boolean;
  /** Parts that are merged; 1 = the attention writes its output itself. */
  readonly parts: number;
}

export const isEmpty = ({ rows }: FormRows): boolean => rows.every((row) => row.length === 0);

export const partialBytes = (headDim: number): number => 4 * (headDim + 2);

const placeTables = (
  { layout }: Binding,
  { entries, offsets, tokens, isMasked, table, mask }: PageTables,
  area: 'tables' | 'hostTables',
) => ({
  table: layout.numbers(area, entries, table),
  offsets: layout.table(area, offsets),
  tokens: layout.table(area, tokens),
  ...(isMasked ? { mask: layout.numbers(area, entries, mask) } : {}),
});

/** What one query head reads of spans, shared as the spans are. */
const readBy = new WeakMap<Spans, Map<number, Spans>>();
const spansOfQuery = (spans: Spans, query: number): Spans => {
  const known = once(readBy, spans, () => new Map<number, Spans>());
  return once(known, query, () =>
    spansOf(
      spans.segments
        .filter(({ queries }) => ((queries >> query) & 1) === 1)
        .map(({ slot, count }) => ({ slot, count, queries: -1 })),
    ),
  );
};

/** One row a query head, of the tokens that it reads: as programs declare the reads of heads that choose for themselves. */
const rowsOfQueries = (rows: FormRows['rows'], group: number): FormRows['rows'] =>
  rows.flatMap((row) =>
    Array.from({ length: group }, (_, query) =>
      row.flatMap(({ base, spans }) => rowAt(base, spansOfQuery(spans, query))),
    ),
  );

/** Whether what follows a layer's attention takes its logits. */
export const asksLogits = (operations: readonly Operation[], layer: number): boolean =>
  operations.some(
    (one) => one.layer === layer && one.kind === 'score' && one.call?.kernel === 'observed-logits',
  );

/** Room for the logits of all rows, left for the layer's next calls; none where rows are not of one length. */
const logitsOf = (binding: Binding, { offsets }: PageTables, rowTokens: number, group: number) => {
  const [pages, rows] = [offsets[1] - offsets[0], offsets.length - 1];
  if (offsets.some((offset, row) => offset !== row * pages)) return {};
  const bytes = 4 * rows * pages * rowTokens * group;
  const logits = binding.layout.place('scores', bytes);
  binding.leave(LOGITS, logits, bytes);
  return { logits };
};

const attendForm = (
  binding: Binding,
  group: AttentionGroup,
  { operation }: Attended,
  form: FormRows & { readonly format: Format },
  part: number,
): void => {
  const { headDim, parts } = group;
  const { format, pageTokens, pool } = form;
  const onCpu = operation.where === 'cpu';
  const apart = onCpu && form.rows.some((row) => row.some(({ spans }) => spans.isMasked));
  const [attendedRows, heads] = apart ? [rowsOfQueries(form.rows, group.group), 1] : [form.rows, group.group];
  const tables = pageTablesOf(attendedRows, pageTokens);
  const pageStride = pageStrideOf(format, headDim, pageTokens);
  const [queries, out] = onCpu
    ? [group.hostQueries ?? group.queries, group.hostPartials ?? group.partials]
    : [group.queries, parts > 1 ? group.partials : group.out];
  binding.add('attend', {
    refs: {
      q: queries,
      pool,
      ...placeTables(binding, tables, onCpu ? 'hostTables' : 'tables'),
      out,
      ...(group.leavesLogits && !onCpu && format.element !== 'code'
        ? logitsOf(binding, tables, pageTokens, heads)
        : {}),
    },
    ints: {
      rows: attendedRows.length,
      group: heads,
      headDim,
      pageTokens,
      format: format.id,
      pageStride,
      qType: 0,
      outType: parts > 1 ? 0 : 1,
      parts: onCpu ? 1 : parts > 1 ? parts : 0,
      part: onCpu ? 0 : part,
      units: 0,
    },
    reals: { scale: 0 },
  });
  let tokens = 0;
  for (const count of tables.tokens) tokens += count;
  binding.touch(onCpu ? 'dram' : 'hbm', (tokens * pageStride) / pageTokens);
};

/** The base of a Llama's rotary embedding; which one it is takes no time. */
const THETA = 500_000;

/** Attention that looks its codes up. */
const attendNuq = (
  binding: Binding,
  group: AttentionGroup,
  { rows, pool, pageTokens, nuq }: FormRows & { readonly nuq: NuqForm },
  part: number,
): void => {
  const { headDim, parts } = group;
  const { bits, outliers, isTurned } = nuq;
  const { table, offsets, tokens } = placeTables(binding, pageTablesOf(rows, pageTokens), 'tables');
  const books = rows.length * nuqBookBytes(headDim, bits);
  binding.add('nuq-attend', {
    refs: {
      q: group.queries,
      pool,
      books: binding.layout.place('kv', books),
      table,
      offsets,
      tokens,
      out: parts > 1 ? group.partials : group.out,
    },
    ints: {
      rows: rows.length,
      group: group.group,
      headDim,
      bits,
      outliers,
      pageStride: nuqLayout({ headDim, bits, outliers }).stride,
      first: 0,
      outType: parts > 1 ? 0 : 1,
      parts: parts > 1 ? parts : 0,
      part: parts > 1 ? part : 0,
    },
    reals: { theta: isTurned ? THETA : 0 },
  });
  const read = rows.reduce((sum, row) => row.reduce((own, { spans }) => own + spans.tokens, sum), 0);
  binding.touch('hbm', (read * nuqLayout({ headDim, bits, outliers }).bytes) / pageTokens);
};

/** One call for all forms that no kernel reads, as a kernel for them would be one. */
const standIn = (
  binding: Binding,
  { operation }: Attended,
  forms: readonly FormRows[],
  formNames: readonly string[],
): void => {
  let bytes = 0;
  for (const { rows, slotBytes } of forms)
    for (const row of rows) for (const { spans } of row) bytes += spans.tokens * slotBytes;
  for (const { form } of forms) binding.standIn(`attention over ${formNames[form]}`);
  const names = forms.map(({ form }) => formNames[form]);
  const { coded = [], where, flops } = operation;
  const own = coded.reduce((rest, { decodeFlops }) => rest - decodeFlops, flops);
  const stoodIn = coded.filter(({ codec }) => names.includes(codec));
  const decodeFlops = stoodIn.reduce((sum, one) => sum + one.decodeFlops, 0);
  const attendFlops = stoodIn.reduce((sum, { share }) => sum + share * own, 0);
  binding.work(where, {
    hbmBytes: where === 'gpu' ? bytes : 0,
    dramBytes: where === 'gpu' ? 0 : bytes,
    writeBytes: 0,
    flops: where === 'gpu' ? decodeFlops : decodeFlops + attendFlops,
    matrixFlops: where === 'gpu' ? attendFlops : 0,
    launches: 1,
  });
};

/** Binds one attention; `part` = position of its first form among the layer's parts. Returns the parts that it took. */
export const bindAttend = (
  binding: Binding,
  group: AttentionGroup,
  attended: Attended,
  part: number,
  formNames: readonly string[],
): number => {
  let taken = 0;
  const without: FormRows[] = [];
  for (const form of attended.forms) {
    if (isEmpty(form)) continue;
    const { format, nuq } = form;
    if (nuq !== null) attendNuq(binding, group, { ...form, nuq }, part + taken++);
    else if (format === null) without.push(form);
    else attendForm(binding, group, attended, { ...form, format }, part + taken++);
  }
  if (without.length > 0) standIn(binding, attended, without, formNames);
  return taken;
};

export const bindMerge = (
  binding: Binding,
  { rows, group, parts, headDim, partials, out }: AttentionGroup,
) => {
  if (parts <= 1) return;
  binding.add('merge', {
    refs: { partials, out },
    ints: { rows: rows * group, parts, headDim },
  });
};

/** The CPU's outputs of a layer come to the partials in HBM, between those of other parts. */
export const partialTarget = ({ partials, headDim }: AttentionGroup, part: number): Ref =>
  plus(partials, part * partialBytes(headDim));

/** Parts in which the attention of a layer leaves its outputs. */
export const partsOf = (attended: readonly Attended[]): number =>
  attended.reduce(
    (sum, { forms }) =>
      sum + forms.filter((form) => (form.format !== null || form.nuq !== null) && !isEmpty(form)).length,
    0,
  );
