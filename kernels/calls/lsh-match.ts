/**
 * Keys that share the code of a query in at least `collisions` (1 or 2) of the tables: ids u32 [rows, group, idStride], of
 * which the first counts[row, query] (u32 [rows, group]) are written, ascending; idStride >= count. codes u16
 * [rows, tables, codeStride] hold the queries' codes; starts u32 [lists, tables, 2^hashes + 1] say where the keys of a code
 * begin in postings u32 [lists, tables, count], of which row r has those of r mod lists. Infini-AI-Lab/MagicPIG library/lsh/lsh.cc; sim/policy/lsh-index.ts.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u16View, u32View } from '../floats.ts';
import { u32Bytes } from '../group-scores.ts';
import type { Random } from '../random.ts';

export const call = {
  name: 'lsh-match',
  refs: ['codes', 'starts', 'postings', 'ids', 'counts'],
  writes: ['ids', 'counts'],
  ints: ['rows', 'group', 'count', 'tables', 'hashes', 'collisions', 'lists', 'codeStride', 'idStride'],
  reals: [],
  extents: ({ rows, group, count, tables, hashes, lists, codeStride, idStride }) => ({
    codes: rowsExtent(rows * tables, 2 * group, 2 * codeStride),
    starts: 4 * lists * tables * (2 ** hashes + 1),
    postings: 4 * lists * tables * count,
    ids: 4 * rows * group * idStride,
    counts: 4 * rows * group,
  }),
  reference({ ints, bytes }) {
    const { rows, group, count, tables, hashes, collisions, lists, codeStride, idStride } = ints;
    const codes = u16View(bytes('codes'));
    const [starts, postings, ids, counts] = ['starts', 'postings', 'ids', 'counts'].map((ref) =>
      u32View(bytes(ref)),
    );
    for (let query = 0; query < rows * group; query++) {
      const row = Math.floor(query / group);
      const seen = new Uint32Array(count);
      for (let table = 0; table < tables; table++) {
        const list = (row % lists) * tables + table;
        const bucket =
          list * (2 ** hashes + 1) + codes[(row * tables + table) * codeStride + (query % group)];
        for (let at = starts[bucket]; at < starts[bucket + 1]; at++) seen[postings[list * count + at]]++;
      }
      counts[query] = 0;
      seen.forEach((times, key) => {
        if (times >= collisions) ids[query * idStride + counts[query]++] = key;
      });
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const group = random.integer(1, 5);
    // Few keys, each in all of more tables than a byte counts.
    const manyTables = random.integer(0, 2) === 0;
    const tables = manyTables ? random.among([250, 256, 257, 513]) : random.integer(1, 12);
    const count = manyTables
      ? random.integer(1, 40)
      : random.among([random.integer(1, 40), random.integer(41, 3000)]);
    const hashes = random.integer(1, 8);
    const drawn = manyTables ? 1 : 2 ** hashes;
    const codeStride = group + random.integer(0, 2);
    const idStride = count + random.integer(0, 2);
    const lists = random.integer(1, rows);
    const { starts, postings } = drawLists(random, lists * tables, count, 2 ** hashes, drawn);
    const codes = Uint16Array.from({ length: rows * tables * codeStride }, () =>
      random.integer(0, drawn - 1),
    );
    return {
      label: `lsh-match rows ${rows} group ${group} count ${count} ${tables} x ${hashes}`,
      buffers: {
        codes: { tier: 'dram', data: new Uint8Array(codes.buffer) },
        starts: { tier: 'dram', data: starts },
        postings: { tier: 'dram', data: postings },
        ids: { tier: 'dram', data: 4 * rows * group * idStride },
        counts: { tier: 'dram', data: 4 * rows * group },
      },
      ints: {
        rows,
        group,
        count,
        tables,
        hashes,
        collisions: random.integer(1, 2),
        lists,
        codeStride,
        idStride,
      },
      outputs: [
        { ref: 'ids', bytes: 4 * rows * group * idStride, type: 'u32', tolerance: 0 },
        { ref: 'counts', bytes: 4 * rows * group, type: 'u32', tolerance: 0 },
      ],
    };
  },
} satisfies KernelSpec;

/** Lists of keys by random codes below `drawn`, and where each of `buckets` begins, of `lists` tables. */
const drawLists = (random: Random, lists: number, count: number, buckets: number, drawn: number) => {
  const starts: number[] = [];
  const postings: number[] = [];
  for (let list = 0; list < lists; list++) {
    const codes = Array.from({ length: count }, () => random.integer(0, drawn - 1));
    const order = codes.map((_, key) => key).sort((a, b) => codes[a] - codes[b] || a - b);
    postings.push(...order);
    for (let code = 0; code <= buckets; code++) starts.push(codes.filter((own) => own < code).length);
  }
  return { starts: u32Bytes(starts), postings: u32Bytes(postings) };
};
