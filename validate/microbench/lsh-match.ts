/** Keys that share codes with queries, matched by host threads in tables of host memory, between two kernels. */
import { samplingWorks } from '../../sim/policy/lsh-works.ts';
import type { World } from '../../sim/policy/policy.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { Layout } from '../execute/memory.ts';
import { chained, emptyOperation, type Microbench, type Site, scatteredRows } from './microbench.ts';

const KV_HEADS = 8;
const GROUP = 4;
const COLLISIONS = 2;
const PASSES = 16;

interface Tables {
  readonly hashed: number;
  readonly tables: number;
  readonly hashes: number;
}

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

/** Lists of all tables: each holds every key once, in an order of its own; codes have equally many keys. */
const listsOf = (layout: Layout, { hashed, tables, hashes }: Tables) => {
  const all = KV_HEADS * tables;
  const codes = 2 ** hashes;
  const starts = new Uint32Array(all * (codes + 1));
  const postings = new Uint32Array(all * hashed);
  for (let table = 0; table < all; table++) {
    for (let code = 0; code <= codes; code++)
      starts[table * (codes + 1) + code] = Math.floor((code * hashed) / codes);
    postings.set(scatteredRows(hashed, hashed, table % hashed), table * hashed);
  }
  return { starts: layout.table('hostTables', starts), postings: layout.table('hostTables', postings) };
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
      (pass) => ({ kernel: 'lsh-match', refs: { codes: codes[pass], ...lists, ids, counts }, ints }),
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
    [1024, 4096, 16_384].flatMap((hashed) =>
      [
        [75, 8],
        [150, 10],
        [300, 10],
      ]
        .filter(([tables]) => 4 * KV_HEADS * tables * hashed <= dramBytes / 32)
        .map(([tables, hashes]) => siteOf({ hashed, tables, hashes })),
    ),
} satisfies Microbench;
