/**
 * Attended KV as segments of a pool: which slots, side by side, a row of attention reads. From segments follow the
 * largest page in which a kernel may address them and the page tables that it is given.
 */

/** `count` slots from `slot` on; `queries` as in a run: bits of the group's query heads, -1 = all. */
export interface Segment {
  readonly slot: number;
  readonly count: number;
  readonly queries: number;
}

const PAGE_TOKENS = [64, 32, 16, 8, 4, 2, 1] as const;
/** Pools begin at multiples of this many slots. */
export const SLOT_ALIGNMENT = PAGE_TOKENS[0];

/** Heads of a layer that comes in one piece begin at multiples of this many slots. */
export const WHOLE_ALIGNMENT = 16;

export const alignSlots = (count: number): number => Math.ceil(count / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;

/** Segments that follow each other become one. */
export const joined = (segments: readonly Segment[]): readonly Segment[] => {
  const out: { slot: number; count: number; queries: number }[] = [];
  for (const { slot, count, queries } of segments) {
    const last = out.at(-1);
    if (last !== undefined && last.slot + last.count === slot && last.queries === queries)
      last.count += count;
    else if (count > 0) out.push({ slot, count, queries });
  }
  return out;
};

/** Whether a row can be addressed in pages of `pageTokens`: only its last page may be partly filled. */
const fits = (row: readonly Segment[], pageTokens: number): boolean => {
  let partial = 0;
  for (const { slot, count } of row) {
    if (slot % pageTokens !== 0) return false;
    if (count % pageTokens !== 0) partial++;
  }
  return partial <= 1;
};

/** The largest page, of at most `limit` tokens and dividing it, in which all rows can be addressed. */
export const pageTokensFor = (rows: readonly (readonly Segment[])[], limit: number): number =>
  PAGE_TOKENS.find((size) => limit % size === 0 && rows.every((row) => fits(row, size))) ?? 1;

export interface PageTables {
  readonly table: Uint32Array;
  readonly offsets: Uint32Array;
  readonly tokens: Uint32Array;
  /** Query heads that read each entry; null = all read all. */
  readonly mask: Uint32Array | null;
}

/** Page tables of rows; a row's partly filled page comes last. */
export const pageTablesOf = (rows: readonly (readonly Segment[])[], pageTokens: number): PageTables => {
  const table: number[] = [];
  const mask: number[] = [];
  const offsets = new Uint32Array(rows.length + 1);
  const tokens = new Uint32Array(rows.length);
  let masked = false;
  rows.forEach((row, at) => {
    const whole = row.filter(({ count }) => count % pageTokens === 0);
    const rest = row.filter(({ count }) => count % pageTokens !== 0);
    for (const { slot, count, queries } of [...whole, ...rest]) {
      for (let t = 0; t < count; t += pageTokens) {
        table.push((slot + t) / pageTokens);
        mask.push(queries >>> 0);
      }
      masked ||= queries !== -1;
      tokens[at] += count;
    }
    offsets[at + 1] = table.length;
  });
  return {
    table: Uint32Array.from(table),
    offsets,
    tokens,
    mask: masked ? Uint32Array.from(mask) : null,
  };
};
