/** Tokens that share a query's hash code in two tables, each query head for itself (MagicPIG, arXiv 2410.16179). */
import { u16View } from '../../kernels/floats.ts';
import { createRandom } from '../../sim/engine/random.ts';
import { LshIndex } from '../../sim/policy/lsh-index.ts';
import { bf16BytesOf, type SelectionCheck, type SelectionDevice, type SelectionHead } from './check.ts';

const HASHES = 6;
const TABLES = 30;
const COLLISIONS = 2;
const BUCKETS = 2 ** HASHES;
/** The index draws its projections first of all from this. */
const stream = () => createRandom(1, 'hash-projections');

/** Keys by code, table after table, and where the keys of each code begin. */
const listsOf = (codes: Uint16Array, tokens: number) => {
  const starts = new Uint32Array(TABLES * (BUCKETS + 1));
  const postings = new Uint32Array(TABLES * tokens);
  for (let table = 0; table < TABLES; table++) {
    const own = codes.subarray(table * tokens, (table + 1) * tokens);
    const order = Uint32Array.from(own, (_, key) => key).sort((a, b) => own[a] - own[b] || a - b);
    postings.set(order, table * tokens);
    for (let code = 0; code <= BUCKETS; code++)
      starts[table * (BUCKETS + 1) + code] = own.reduce((n, other) => n + (other < code ? 1 : 0), 0);
  }
  return { starts, postings };
};

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer);

const byKernel = async (
  device: SelectionDevice,
  { keys, queries, tokens, group, headDim }: SelectionHead,
): Promise<readonly Uint32Array[]> => {
  const drawn = new Float32Array(TABLES * HASHES * headDim);
  stream().fillNormal(drawn);
  const projections = await device.put(bf16BytesOf(drawn));
  const hash = async (vectors: Float32Array, count: number) => {
    const codes = await device.room(2 * TABLES * count);
    const refs = { vectors: await device.put(bf16BytesOf(vectors)), projections, codes };
    const shape = { rows: 1, count, headDim, tables: TABLES, hashes: HASHES, codeStride: count };
    const ints = { ...shape, pieceVectors: count, pieceStride: 1, pieceBytes: 2 * count * headDim };
    await device.run([{ kernel: 'lsh-hash', refs, ints }]);
    return codes;
  };
  const keyCodes = await hash(keys.subarray(0, tokens * headDim), tokens);
  const words = await device.numbers(keyCodes, Math.ceil((TABLES * tokens) / 2));
  const lists = listsOf(u16View(new Uint8Array(words.buffer, words.byteOffset, words.byteLength)), tokens);
  const ids = await device.room(4 * group * tokens);
  const counts = await device.room(4 * group);
  const refs = {
    codes: await hash(queries, group),
    starts: await device.put(bytesOf(lists.starts)),
    postings: await device.put(bytesOf(lists.postings)),
    ids,
    counts,
  };
  const ints = {
    rows: 1,
    group,
    count: tokens,
    tables: TABLES,
    hashes: HASHES,
    collisions: COLLISIONS,
    lists: 1,
    codeStride: group,
    idStride: tokens,
  };
  await device.run([{ kernel: 'lsh-match', refs, ints }]);
  const [found, sizes] = [await device.numbers(ids, group * tokens), await device.numbers(counts, group)];
  return Array.from(sizes, (size, query) => found.slice(query * tokens, query * tokens + size));
};

export const selection = {
  policies: ['magicpig'],
  kernels: ['lsh-hash', 'lsh-match'],
  async run(device, head) {
    const { keys, queries, tokens, headDim } = head;
    const rows = keys.subarray(0, tokens * headDim);
    const index = new LshIndex({ rows, count: tokens, channels: headDim }, HASHES, TABLES, stream());
    const sets = await byKernel(device, head);
    return sets.map((set, query) => {
      const found = index.sample(queries.subarray(query * headDim, (query + 1) * headDim), COLLISIONS);
      return { byKernel: set, byPolicy: found.rows.slice(0, found.count) };
    });
  },
} satisfies SelectionCheck;
