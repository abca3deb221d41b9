/** Keys that share codes with queries, matched by host threads in tables of host memory, between two kernels. */
import { samplingWorks } from '../../sim/policy/lsh-works.ts';
import type { World } from '../../sim/policy/policy.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { FillTable, Layout } from '../execute/memory.ts';
import { chained, emptyOperation, type Microbench, mixed, type Site, scatteredRows } from './microbench.ts';

const COLLISIONS = 2;
const PASSES = 8;

/** Host memory of the lists that the passes of a site visit together, as in a step: enough that few are met again. */
const LIST_BYTES = 2 ** 26;
/** No powers of two: a code's keys begin anywhere in a cache line, and mostly reach into the next. */
const HASHED = [1200, 2500, 5000, 10_000, 20_000];
/** Of these a thread's counts (a byte a key) reach beyond its nearest cache: few KV heads fit then. */
const LONG = [60_000, 130_000];

interface Tables {
  /** Sequences that each look up in tables of their KV heads. */
  readonly batch: number;
  readonly kvHeads: number;
  /** Query heads of a KV head. */
  readonly group: number;
  readonly hashed: number;
  readonly tables: number;
  readonly hashes: number;
}

/** Keys of all tables of a KV head, and where those of each code begin. */
const postingsOfHead = ({ hashed, tables }: Tables): number => tables * hashed;
const startsOfHead = ({ tables, hashes }: Tables): number => tables * (2 ** hashes + 1);

/** KV heads with tables of their own, of all sequences; the others share them where all would take too much. */
const setsOf = (shape: Tables): number => {
  const most = Math.floor(LIST_BYTES / (4 * (postingsOfHead(shape) + startsOfHead(shape))));
  return Math.max(1, Math.min(shape.batch * shape.kvHeads, most));
};

/** The look-up as the policy declares it, for keys that are spread evenly over the codes. */
const operationOf = ({ batch, kvHeads, group, hashed, tables, hashes }: Tables): Operation => {
  const rows = batch * kvHeads;
  const share = 2 ** -hashes;
  const missed = (1 - share) ** tables;
  const sampled = hashed * (1 - missed - tables * share * (1 - share) ** (tables - 1));
  const counts = {
    queries: group,
    hashed,
    probes: group * tables * hashed * share,
    sampled: group * sampled,
  };
  const works = samplingWorks({ hashes, tables }, { headDim: 128, kBytesPerToken: 256 } as World, counts);
  const { readBytes, writeBytes = {}, flops, call } = works[works.length - 1];
  return {
    kind: 'score',
    index: 'tables',
    readBytes: { dram: rows * (readBytes.dram ?? 0) },
    writeBytes: { dram: rows * (writeBytes.dram ?? 0) },
    flops: rows * flops,
    rows,
    kernels: 1,
    where: 'cpu',
    ...(call === undefined ? {} : { call }),
    layer: 0,
    stream: 'cpu',
    after: [],
  };
};

/** Where the keys of each code begin: codes have equally many. */
const startsOf = ({ hashed, hashes }: Tables): FillTable => {
  const bounds = 2 ** hashes + 1;
  return (starts) => {
    for (let i = 0; i < bounds; i++) starts[i] = Math.floor((i * hashed) / (bounds - 1));
    for (let at = bounds; at < starts.length; at += bounds) starts.copyWithin(at, 0, bounds);
  };
};

/** Orders of keys in tables; drawing one for each would take longer than what is measured. */
const ORDERS = 16;

/** Each table holds every key once, in another order than its neighbours. */
const postingsOf = (shape: Tables): FillTable => {
  const { hashed, tables } = shape;
  let orders: readonly Uint32Array[] | null = null;
  return (postings) => {
    orders ??= Array.from({ length: ORDERS }, (_, seed) => scatteredRows(hashed, hashed, seed));
    for (let table = 0; table < setsOf(shape) * tables; table++)
      postings.set(orders[table % ORDERS], table * hashed);
  };
};

/**
 * Lists of all tables, several times over in places of their own. A layer finds none of its lists in a cache: those of a
 * GPU's host are emptied first (run.ts).
 */
const listsOf = (layout: Layout, shape: Tables) => {
  const starts = setsOf(shape) * startsOfHead(shape);
  const postings = setsOf(shape) * postingsOfHead(shape);
  const times = Math.max(1, Math.min(PASSES, Math.floor(LIST_BYTES / (4 * (starts + postings)))));
  const fillPostings = postingsOf(shape);
  return Array.from({ length: times }, () => ({
    starts: layout.numbers('hostTables', starts, startsOf(shape)),
    postings: layout.numbers('hostTables', postings, fillPostings),
  }));
};

const siteOf = (shape: Tables): Site => ({
  id: `${shape.batch} x ${shape.hashed} keys, ${shape.tables} tables of ${shape.hashes} signs`,
  operations: [operationOf(shape), emptyOperation],
  passes: PASSES,
  options: { graph: true },
  build: (layout) => {
    const { batch, kvHeads, group, hashed, tables, hashes } = shape;
    const rows = batch * kvHeads;
    const lists = listsOf(layout, shape);
    const count = rows * tables * group;
    // 16 bits a code, two in a word. Codes that went up evenly from table to table would be fetched before they are asked for.
    const codeAt = (at: number): number => mixed(at) % 2 ** hashes;
    const codes = Array.from({ length: PASSES }, (_, pass) =>
      layout.table(
        'hostTables',
        Uint32Array.from({ length: count / 2 }, (_word, i) => {
          const at = pass * count + 2 * i;
          return codeAt(at) + codeAt(at + 1) * 2 ** 16;
        }),
      ),
    );
    const ids = layout.place('hostOutputs', 4 * rows * group * hashed);
    const counts = layout.place('hostOutputs', 4 * rows * group);
    const ints = {
      rows,
      group,
      count: hashed,
      tables,
      hashes,
      collisions: COLLISIONS,
      lists: setsOf(shape),
      codeStride: group,
      idStride: hashed,
    };
    return chained(
      PASSES,
      (pass) => ({
        kernel: 'lsh-match',
        refs: { codes: codes[pass], ...lists[pass % lists.length], ids, counts },
        ints,
      }),
      'cpu',
    );
  },
});

export const microbench = {
  name: 'host-kernel/lsh-match',
  number: 12,
  title: 'codes matched by host threads',
  kernels: ['lsh-match', 'empty'],
  sites: ({ dramBytes }) => {
    const usual = [1, 8].flatMap((batch) =>
      HASHED.filter((_, at) => batch === 1 || at % 2 === 0).flatMap((hashed) =>
        [
          [75, 8],
          [150, 10],
          [300, 10],
        ]
          .map(([tables, hashes]) => ({ batch, kvHeads: 8, group: 4, hashed, tables, hashes }))
          // Lists of many tables and keys take longer to lay out than to match.
          .filter(({ tables }) => tables <= 150 || (hashed <= 5000 && batch === 1)),
      ),
    );
    const long = LONG.flatMap((hashed) =>
      [1, 4].map((batch) => ({ batch, kvHeads: 2, group: 16, hashed, tables: 150, hashes: 10 })),
    );
    return [...usual, ...long].filter((shape) => 4 * postingsOfHead(shape) <= dramBytes / 32).map(siteOf);
  },
} satisfies Microbench;
