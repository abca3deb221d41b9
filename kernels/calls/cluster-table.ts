/**
 * Pages of the clusters that were chosen, looked up in a table of descriptors: RetroInfer's wave buffer. ids u64
 * [rows, idStride], of which `count` a row name clusters below `clusters`. descriptors u32 [rows, clusters, 16], a line of
 * memory each: pages, tokens of the last page (the others hold pageTokens), first token in far memory, whether the
 * cluster is cached, the first 11 page numbers in the cache, and where in more u32 [rows, moreStride] the others begin.
 * entries u32 [rows, entryStride, 3] = place, tokens, and tokens of the entries before: cached pages (place = number of
 * the page) from the front, far ones (place = first token) from the back on; counts u32 [rows, 2] = how many of each.
 * Clusters from the first on that finds no room are left out. microsoft/RetrievalAttention wave_buffer_cpu.cpp, batch_access.
 */
import { type KernelSpec, type ReferenceArguments, rowsExtent } from '../calls.ts';
import { u32View } from '../floats.ts';
import { u32Bytes } from '../group-scores.ts';
import type { Random } from '../random.ts';

/** 32-bit words of a descriptor, and page numbers in it. */
export const DESCRIPTOR_WORDS = 16;
export const INLINE_PAGES = 11;
const FIRST_PAGE = 4;

interface Tables {
  readonly descriptors: Uint32Array;
  readonly more: Uint32Array;
}

/** Looks up the clusters of one row. */
const lookUp = (
  { ints }: ReferenceArguments,
  { descriptors, more }: Tables,
  ids: readonly number[],
  entries: Uint32Array,
): readonly [number, number] => {
  const { pageTokens, entryStride } = ints;
  const [pages, tokens] = [
    [0, 0],
    [0, 0],
  ];
  for (const id of ids) {
    const at = id * DESCRIPTOR_WORDS;
    const [count, last, start, cached] = descriptors.subarray(at, at + FIRST_PAGE);
    if (pages[0] + pages[1] + count > entryStride) break;
    const kind = cached === 0 ? 1 : 0;
    for (let page = 0; page < count; page++) {
      const place =
        page < INLINE_PAGES
          ? descriptors[at + FIRST_PAGE + page]
          : more[descriptors[at + DESCRIPTOR_WORDS - 1] + page - INLINE_PAGES];
      const size = page === count - 1 ? last : pageTokens;
      const entry = kind === 0 ? pages[0] : entryStride - 1 - pages[1];
      entries.set([kind === 0 ? place : start + page * pageTokens, size, tokens[kind]], 3 * entry);
      tokens[kind] += size;
      pages[kind]++;
    }
  }
  return [pages[0], pages[1]];
};

/** Descriptors of random clusters, some empty, some with more pages than a descriptor has room for. */
const drawTables = (random: Random, rows: number, clusters: number, pageTokens: number): Tables => {
  const descriptors = new Uint32Array(rows * clusters * DESCRIPTOR_WORDS);
  const rest: number[] = [];
  const most = Math.max(1, random.integer(0, 1) * 10 * clusters);
  for (let at = 0; at < descriptors.length; at += DESCRIPTOR_WORDS) {
    const pages = random.integer(0, random.among([3, 11, 20]));
    const room = Math.max(0, pages - INLINE_PAGES);
    const first = rest.length + room <= most ? rest.length : 0;
    const count = first + room <= most ? pages : INLINE_PAGES;
    while (rest.length < first + count - INLINE_PAGES) rest.push(random.integer(0, 9999));
    const numbers = Array.from({ length: INLINE_PAGES }, () => random.integer(0, 9999));
    const last = random.integer(1, pageTokens);
    descriptors.set([count, last, random.integer(0, 99_999), random.integer(0, 1), ...numbers, first], at);
  }
  while (rest.length < most) rest.push(0);
  // Each row begins anew: all rows have the same list of further pages.
  return { descriptors, more: Uint32Array.from({ length: rows * most }, (_, i) => rest[i % most]) };
};

export const call = {
  name: 'cluster-table',
  refs: ['ids', 'descriptors', 'more', 'entries', 'counts'],
  writes: ['entries', 'counts'],
  ints: ['rows', 'clusters', 'count', 'pageTokens', 'idStride', 'moreStride', 'entryStride'],
  reals: [],
  extents: ({ rows, clusters, count, idStride, moreStride, entryStride }) => ({
    ids: rowsExtent(rows, 8 * count, 8 * idStride),
    descriptors: 4 * DESCRIPTOR_WORDS * rows * clusters,
    more: 4 * rows * moreStride,
    entries: 12 * rows * entryStride,
    counts: 8 * rows,
  }),
  reference(given) {
    const { rows, clusters, count, idStride, moreStride, entryStride } = given.ints;
    const [ids, descriptors, more, entries, counts] = ['ids', 'descriptors', 'more', 'entries', 'counts'].map(
      (ref) => u32View(given.bytes(ref)),
    );
    const perRow = clusters * DESCRIPTOR_WORDS;
    for (let row = 0; row < rows; row++) {
      const tables = {
        descriptors: descriptors.subarray(row * perRow, (row + 1) * perRow),
        more: more.subarray(row * moreStride, (row + 1) * moreStride),
      };
      // Low words: there are fewer clusters than 2^32.
      const chosen = Array.from({ length: count }, (_, i) => ids[2 * (row * idStride + i)]);
      const own = entries.subarray(3 * row * entryStride, 3 * (row + 1) * entryStride);
      counts.set(lookUp(given, tables, chosen, own), 2 * row);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 5);
    const clusters = random.integer(1, 90);
    const count = random.integer(1, random.among([8, 600]));
    const pageTokens = random.integer(1, 9);
    const idStride = count + random.integer(0, 2);
    const entryStride = random.among([2, 5, 14]) * count;
    const { descriptors, more } = drawTables(random, rows, clusters, pageTokens);
    const ids = Array.from({ length: rows * idStride }, () => [random.integer(0, clusters - 1), 0]).flat();
    return {
      label: `cluster-table rows ${rows} clusters ${clusters} count ${count} room ${entryStride}`,
      buffers: {
        ids: { tier: 'dram', data: u32Bytes(ids) },
        descriptors: { tier: 'dram', data: u32Bytes(descriptors) },
        more: { tier: 'dram', data: u32Bytes(more) },
        entries: { tier: 'dram', data: 12 * rows * entryStride },
        counts: { tier: 'dram', data: 8 * rows },
      },
      ints: { rows, clusters, count, pageTokens, idStride, moreStride: more.length / rows, entryStride },
      outputs: [
        { ref: 'entries', bytes: 12 * rows * entryStride, type: 'u32', tolerance: 0 },
        { ref: 'counts', bytes: 8 * rows, type: 'u32', tolerance: 0 },
      ],
    };
  },
} satisfies KernelSpec;
