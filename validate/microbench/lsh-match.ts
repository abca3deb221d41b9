/** Keys that share codes with queries, matched by host threads in tables of host memory, between two kernels. */
import { samplingWorks } from '../../sim/policy/lsh-works.ts';
import type { World } from '../../sim/policy/policy.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { type Layout, numbered } from '../execute/memory.ts';
import { chained, emptyOperation, type Microbench, powers, type Site, scatteredRows } from './microbench.ts';

const KV_HEADS = 8;
const GROUP = 4;
const COLLISIONS = 2;
const PASSES = 16;

/** Lists that the passes of a site visit together: more than the caches of a processor's cores hold. */
const LIST_BYTES = 2 ** 27;

interface Tables {
  readonly hashed: number;
  readonly tables: number;
  readonly hashes: number;
}

const postingsBytes = ({ hashed, tables }: Tables): number => 4 * KV_HEADS * tables * hashed;

/** The look-up as the policy declares it, for keys that are spread evenly over the codes. */
const operationOf = ({ hashed, tables, hashes }: Tables): Operation => {
  const share = 2 ** -hashes;
  const missed = (1 - share) ** tables;
  const sampled = hashed * (1 - missed - tables * share * (1 - share) ** (tables - 1));
  const counts = {
    queries: GROUP,
    hashed,
    probes: GROUP * tables * hashed * share,
    sampled: GROUP * sampled,
  };
  const works = samplingWorks({ hashes, tables }, { headDim: 128, kBytesPerToken: 256 } as World, counts);
  const { readBytes, writeBytes = {}, flops, call } = works[works.length - 1];
  return {
    kind: 'score',
    index: 'tables',
    readBytes: { dram: KV_HEADS * (readBytes.dram ?? 0) },
    writeBytes: { dram: KV_HEADS * (writeBytes.dram ?? 0) },
    flops: KV_HEADS * flops,
    kernels: 1,
    where: 'cpu',
    ...(call === undefined ? {} : { call }),
    layer: 0,
    stream: 'cpu',
    after: [],
  };
};

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer);

/** Where the keys of each code begin: codes have equally many. */
const startsOf = ({ hashed, tables, hashes }: Tables): Uint8Array => {
  const bounds = 2 ** hashes + 1;
  return bytesOf(
    numbered(KV_HEADS * tables * bounds, (i) => Math.floor(((i % bounds) * hashed) / (bounds - 1))),
  );
};

/** Orders of keys in tables; drawing one for each would take longer than what is measured. */
const ORDERS = 16;

/** Each table holds every key once, in another order than its neighbours. */
const postingsOf = ({ hashed, tables }: Tables): Uint8Array => {
  const orders = Array.from({ length: ORDERS }, (_, seed) => scatteredRows(hashed, hashed, seed));
  const postings = new Uint32Array(KV_HEADS * tables * hashed);
  for (let table = 0; table < KV_HEADS * tables; table++)
    postings.set(orders[table % ORDERS], table * hashed);
  return bytesOf(postings);
};

/** Lists of all tables, several times over in places of their own, since a layer finds none of its lists in a cache. */
const listsOf = (layout: Layout, shape: Tables) => {
  const { tables, hashes } = shape;
  const [starts, postings] = [4 * KV_HEADS * tables * (2 ** hashes + 1), postingsBytes(shape)];
  const times = Math.max(1, Math.min(PASSES, Math.floor(LIST_BYTES / (starts + postings))));
  let made: { readonly starts: Uint8Array; readonly postings: Uint8Array } | null = null;
  const lists = () => {
    made ??= { starts: startsOf(shape), postings: postingsOf(shape) };
    return made;
  };
  return Array.from({ length: times }, () => ({
    starts: layout.drawn('hostTables', starts, () => lists().starts),
    postings: layout.drawn('hostTables', postings, () => lists().postings),
  }));
};

const siteOf = (shape: Tables): Site => ({
  id: `${shape.hashed} keys, ${shape.tables} tables of ${shape.hashes} signs`,
  operations: [operationOf(shape), emptyOperation],
  passes: PASSES,
  options: { graph: true },
  build: (layout) => {
    const { hashed, tables, hashes } = shape;
    const lists = listsOf(layout, shape);
    const count = KV_HEADS * tables * GROUP;
    const drawn = scatteredRows(PASSES * count, 2 ** 20, 1);
    // 16 bits a code, two in a word.
    const codes = Array.from({ length: PASSES }, (_, pass) =>
      layout.table(
        'hostTables',
        Uint32Array.from({ length: count / 2 }, (_word, i) => {
          const at = pass * count + 2 * i;
          return (drawn[at] % 2 ** hashes) + (drawn[at + 1] % 2 ** hashes) * 2 ** 16;
        }),
      ),
    );
    const ids = layout.place('hostOutputs', 4 * KV_HEADS * GROUP * hashed);
    const counts = layout.place('hostOutputs', 4 * KV_HEADS * GROUP);
    const ints = {
      rows: KV_HEADS,
      group: GROUP,
      count: hashed,
      tables,
      hashes,
      collisions: COLLISIONS,
      lists: KV_HEADS,
      codeStride: GROUP,
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
  sites: ({ dramBytes }) =>
    powers(1024, 16_384, 2).flatMap((hashed) =>
      [
        [75, 8],
        [150, 10],
        [300, 10],
      ]
        .map(([tables, hashes]) => ({ hashed, tables, hashes }))
        // Lists of many tables and keys take longer to lay out than to match.
        .filter(({ tables }) => tables <= 150 || hashed <= 4096)
        .filter((shape) => postingsBytes(shape) <= dramBytes / 32)
        .map(siteOf),
    ),
} satisfies Microbench;
