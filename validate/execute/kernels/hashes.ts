/** MagicPIG's sampling: codes of the queries by sign hashes on the GPU, and the look-up of their keys on the CPU. */
import type { FillTable } from '../memory.ts';
import { countOf, type KernelBinder, type KernelUse, shapeOf } from './kernel-use.ts';

/** Host memory that one set of lists may take: fewer rows have lists of their own where all would take more. */
const LIST_BYTES = 2 ** 26;
/** Tables need two collisions (MagicPIG). */
const COLLISIONS = 2;

export const hash: KernelBinder = (use) => {
  const { binding, rows, headDim } = use;
  const count = countOf(use, 'count');
  const [tables, hashes] = [shapeOf(use, 'tables'), shapeOf(use, 'hashes')];
  if (count < 1 || hashes > 16) return null;
  const projections = 2 * tables * hashes * headDim;
  const vectors = 2 * rows * count * headDim;
  const codes = 2 * rows * tables * count;
  binding.add('lsh-hash', {
    refs: {
      vectors: binding.layout.place('kv', vectors),
      // The same for all layers.
      projections: binding.once('projections', () => binding.layout.place('kv', projections)),
      codes: binding.layout.place('outputs', codes),
    },
    ints: {
      rows,
      count,
      headDim,
      tables,
      hashes,
      pieceVectors: count,
      pieceStride: 1,
      pieceBytes: 2 * count * headDim,
      codeStride: count,
    },
  });
  return { read: projections + vectors, write: codes };
};

/** Lists of keys by code, `size` in each that any query asks for; buckets beyond the last key are empty. */
interface Lists {
  readonly keys: number;
  readonly size: number;
  readonly tables: number;
  readonly hashes: number;
  /** Rows with lists of their own. */
  readonly sets: number;
}

const startsOf =
  ({ keys, size, tables, hashes, sets }: Lists): FillTable =>
  (words) => {
    const bounds = 2 ** hashes + 1;
    for (let list = 0, at = 0; list < sets * tables; list++)
      for (let i = 0; i < bounds; i++) words[at++] = Math.min(keys, i * size);
  };

/** Each bucket's keys lie evenly over all, from another first one in each table. */
const postingsOf =
  ({ keys, size, tables, sets }: Lists): FillTable =>
  (words) => {
    const stride = Math.floor(keys / size);
    for (let list = 0, at = 0; list < sets * tables; list++)
      for (let p = 0, bucket = 1; p < keys; bucket++) {
        const drawn = (Math.imul(bucket, 0x9e3779b1) + Math.imul(list, 0x85ebca6b)) >>> 0;
        const end = Math.min(keys, p + size);
        for (let key = drawn % stride; p < end; p++, key += stride) words[at++] = key;
      }
  };

/** Sizes of lists in quarter octaves, in whole ones where a set is large: so that layers share most of them. */
const rounded = (size: number, setBytes: number): number => {
  const steps = setBytes > LIST_BYTES ? 1 : 4;
  return Math.max(1, Math.round(2 ** (Math.round(steps * Math.log2(size)) / steps)));
};

const listsOf = (use: KernelUse, keys: number, queries: number): Lists => {
  const [tables, hashes] = [shapeOf(use, 'tables'), shapeOf(use, 'hashes')];
  const each = (use.call.counts.probes ?? 0) / (queries * tables);
  const setBytes = 4 * tables * keys;
  const size = Math.min(keys, Math.max(rounded(each, setBytes), Math.ceil(keys / 2 ** hashes)));
  const sets = Math.max(1, Math.min(use.rows, Math.floor(LIST_BYTES / setBytes)));
  return { keys, size, tables, hashes, sets };
};

/** Keys that share a query's code in two tables, looked up in host memory. */
export const match: KernelBinder = (use) => {
  const { binding, rows } = use;
  const keys = countOf(use, 'hashed');
  const group = shapeOf(use, 'queries', 1);
  if (keys < 1 || shapeOf(use, 'hashes') > 16) return null;
  const lists = listsOf(use, keys, group);
  const { tables, hashes, size, sets } = lists;
  const { layout } = binding;
  const name = `${keys} by ${size}`;
  const used = Math.floor(keys / size);
  const codes = new Uint16Array(2 * Math.ceil((rows * tables * group) / 2));
  codes.forEach((_, i) => {
    codes[i] = (Math.imul(i + binding.calls.length, 0x9e3779b1) >>> 8) % used;
  });
  const shared = (what: string, words: number, fill: FillTable) =>
    binding.once(`${what} ${name}`, () => layout.numbers('hostTables', words, fill));
  binding.add('lsh-match', {
    refs: {
      codes: layout.table('hostTables', new Uint32Array(codes.buffer)),
      starts: shared('starts', sets * tables * (2 ** hashes + 1), startsOf(lists)),
      postings: shared('postings', sets * tables * keys, postingsOf(lists)),
      // Read by the attention that follows, before the next layer writes them.
      ids: binding.once(`ids ${keys}`, () => layout.place('hostOutputs', 4 * rows * group * keys)),
      counts: layout.place('hostOutputs', 4 * rows * group),
    },
    ints: {
      rows,
      group,
      count: keys,
      tables,
      hashes,
      collisions: COLLISIONS,
      lists: sets,
      codeStride: group,
      idStride: keys,
    },
  });
  const { probes = 0, sampled = 0 } = use.call.counts;
  return {
    read: rows * (8 * group * tables + 5 * probes),
    write: rows * (group * keys + probes + 4 * sampled),
  };
};
