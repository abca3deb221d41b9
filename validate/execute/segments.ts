/**
 * Attended KV as segments of a pool: which slots, side by side, a row of attention reads. From segments follow the
 * largest page in which a kernel may address them and the page tables that it is given.
 */

import type { FillTable } from './memory.ts';
import { once } from './once.ts';

/** `count` slots from `slot` on; `queries` as in a run: bits of the group's query heads, -1 = all. */
export interface Segment {
  readonly slot: number;
  readonly count: number;
  readonly queries: number;
}

const PAGE_TOKENS: readonly number[] = [64, 32, 16, 8, 4, 2, 1];
/** Pools begin at multiples of this many slots. */
export const SLOT_ALIGNMENT = PAGE_TOKENS[0];

/** Heads of a layer that comes in one piece begin at multiples of this many slots. */
export const WHOLE_ALIGNMENT = 16;

export const alignSlots = (count: number): number => Math.ceil(count / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;

/** What pages of one size hold of segments. */
interface PageFit {
  /** Where in a page the segments begin; null where they differ. */
  readonly start: number | null;
  readonly pages: number;
  /** Segments that end within a page. */
  readonly partial: number;
}

/**
 * Segments counted from a base that others lie at: made once and shared by all sequences, heads and layers that chose
 * alike, of which a long step has thousands.
 */
export interface Spans {
  readonly segments: readonly Segment[];
  readonly tokens: number;
  /** Whether some query heads read only a part of it. */
  readonly isMasked: boolean;
  /** In the order of PAGE_TOKENS. */
  readonly fits: readonly PageFit[];
}

/** Spans from slot `base` of the pool on. */
export interface Laid {
  readonly base: number;
  readonly spans: Spans;
}

/** What a row of attention reads, in order; empty = nothing. */
export type Row = readonly Laid[];

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

const fitOf = (segments: readonly Segment[], size: number): PageFit => {
  let start: number | null = segments.length === 0 ? 0 : segments[0].slot % size;
  let pages = 0;
  let partial = 0;
  for (const { slot, count } of segments) {
    if (slot % size !== start) start = null;
    if (count % size !== 0) partial++;
    pages += Math.ceil(count / size);
  }
  return { start, pages, partial };
};

export const spansOf = (segments: readonly Segment[]): Spans => {
  let tokens = 0;
  for (const { count } of segments) tokens += count;
  return {
    segments,
    tokens,
    isMasked: segments.some(({ queries }) => queries !== -1),
    fits: PAGE_TOKENS.map((size) => fitOf(segments, size)),
  };
};

export const rowAt = (base: number, spans: Spans): Row => (spans.tokens === 0 ? [] : [{ base, spans }]);

/** Whether a row can be addressed in pages of a size: only its last page may be partly filled. */
const fits = (row: Row, at: number): boolean => {
  let partial = 0;
  for (const { base, spans } of row) {
    const { start, partial: more } = spans.fits[at];
    if (start === null || (base + start) % PAGE_TOKENS[at] !== 0) return false;
    partial += more;
  }
  return partial <= 1;
};

/** The largest page, of at most `limit` tokens and dividing it, in which all rows can be addressed. */
export const pageTokensFor = (rows: readonly Row[], limit: number): number =>
  PAGE_TOKENS.find((size, at) => limit % size === 0 && rows.every((row) => fits(row, at))) ?? 1;

/** Pages of spans from the page that the first begins in, whole ones first, and the query heads that read each. */
interface PageList {
  readonly pages: Uint32Array;
  readonly readers: Uint32Array;
  readonly whole: number;
}

const listed = new WeakMap<Spans, Map<number, PageList>>();

const makeList = ({ segments, fits }: Spans, pageTokens: number): PageList => {
  const { start, pages: count } = fits[PAGE_TOKENS.indexOf(pageTokens)];
  const [pages, readers] = [new Uint32Array(count), new Uint32Array(count)];
  let at = 0;
  const put = (isPartial: boolean): void => {
    for (const { slot, count: tokens, queries } of segments) {
      if ((tokens % pageTokens !== 0) !== isPartial) continue;
      const first = (slot - (start ?? 0)) / pageTokens;
      for (let n = 0; n * pageTokens < tokens; n++) {
        pages[at] = first + n;
        readers[at++] = queries;
      }
    }
  };
  put(false);
  const whole = at;
  put(true);
  return { pages, readers, whole };
};

/** Spans are shared, so most rows of a step find theirs listed. */
const listOf = (spans: Spans, pageTokens: number): PageList => {
  const bySize = once(listed, spans, () => new Map<number, PageList>());
  return once(bySize, pageTokens, () => makeList(spans, pageTokens));
};

export interface PageTables {
  /** Entries of the table and of the mask. */
  readonly entries: number;
  readonly offsets: Uint32Array;
  readonly tokens: Uint32Array;
  readonly isMasked: boolean;
  /** Page ids; a row's partly filled page comes last. */
  readonly table: FillTable;
  /** Query heads that read each entry. */
  readonly mask: FillTable;
}

/** Page tables of rows that can be addressed in such pages. */
export const pageTablesOf = (rows: readonly Row[], pageTokens: number): PageTables => {
  const size = PAGE_TOKENS.indexOf(pageTokens);
  const offsets = new Uint32Array(rows.length + 1);
  const tokens = new Uint32Array(rows.length);
  rows.forEach((row, at) => {
    offsets[at + 1] = offsets[at];
    for (const { spans } of row) {
      offsets[at + 1] += spans.fits[size].pages;
      tokens[at] += spans.tokens;
    }
  });
  /** Calls `put` for every row's lists, whole pages first, with what its first page is counted from. */
  const each = (put: (list: PageList, from: number, to: number, first: number) => void): void => {
    for (const row of rows)
      for (const isPartial of [false, true])
        for (const { base, spans } of row) {
          const list = listOf(spans, pageTokens);
          const first = (base + (spans.fits[size].start ?? 0)) / pageTokens;
          put(list, isPartial ? list.whole : 0, isPartial ? list.pages.length : list.whole, first);
        }
  };
  return {
    entries: offsets[rows.length],
    offsets,
    tokens,
    isMasked: rows.some((row) => row.some(({ spans }) => spans.isMasked)),
    table: (target) => {
      let at = 0;
      each(({ pages }, from, to, first) => {
        for (let n = from; n < to; n++) target[at++] = first + pages[n];
      });
    },
    mask: (target) => {
      let at = 0;
      each(({ readers }, from, to) => {
        target.set(readers.subarray(from, to), at);
        at += to - from;
      });
    },
  };
};
