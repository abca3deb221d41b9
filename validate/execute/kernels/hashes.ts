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

/** Lists of keys by code; codes that no query asks for have none. */
interface Lists {
  readonly keys: number;
  /** Keys of a list in the mean: not a whole number. */
  readonly size: number;
  /** Keys that lie together, evenly over all. */
  readonly bucket: number;
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
      for (let i = 0; i < bounds; i++) words[at++] = Math.min(keys, Math.floor(i * size));
  };

/** Each bucket's keys lie evenly over all, from another first one in each table. */
const postingsOf =
  ({ keys, bucket, tables, sets }: Lists): FillTable =>
  (words) => {
    const stride = Math.floor(keys / bucket);
    for (let list = 0, at = 0; list < sets * tables; list++)
      for (let p = 0, turn = 1; p < keys; turn++) {
        const drawn = (Math.imul(turn, 0x9e3779b1) + Math.imul(list, 0x85ebca6b)) >>> 0;
        const end = Math.min(keys, p + bucket);
        for (let key = drawn % stride; p < end; p++, key += stride) words[at++] = key;
      }
  };

/** To so many steps an octave, so that layers share what goes by it: bounds, which are small, within 2 %. */
const BOUND_STEPS = 16;
const bucketSteps = (setBytes: number): number => (setBytes > LIST_BYTES ? 1 : 4);
const rounded = (size: number, steps: number): number => 2 ** (Math.round(steps * Math.log2(size)) / steps);

const listsOf = (use: KernelUse, keys: number, queries: number): Lists => {
  const [tables, hashes] = [shapeOf(use, 'tables'), shapeOf(use, 'hashes')];
  const each = Math.max(1, (use.call.counts.probes ?? 0) / (queries * tables), keys / 2 ** hashes);
  const setBytes = 4 * tables * keys;
  const size = Math.min(keys, rounded(each, BOUND_STEPS));
  const bucket = Math.min(keys, Math.round(rounded(each, bucketSteps(setBytes))));
  const sets = Math.max(1, Math.min(use.rows, Math.floor(LIST_BYTES / setBytes)));
  return { keys, size, bucket, tables, hashes, sets };
};

/** Keys that share a query's code in two tables, looked up in host memory. */
export const match: KernelBinder = (use) => {
  const { binding, rows } = use;
  const keys = countOf(use, 'hashed');
  const group = shapeOf(use, 'queries', 1);
  if (keys < 1 || shapeOf(use, 'hashes') > 16) return null;
  const lists = listsOf(use, keys, group);
  const { tables, hashes, size, bucket, sets } = lists;
  const { layout } = binding;
  const used = Math.max(1, Math.min(2 ** hashes, Math.floor(keys / size)));
  const codes = new Uint16Array(2 * Math.ceil((rows * tables * group) / 2));
  codes.forEach((_, i) => {
    codes[i] = (Math.imul(i + binding.calls.length, 0x9e3779b1) >>> 8) % used;
  });
  const shared = (what: string, words: number, fill: FillTable) =>
    binding.once(what, () => layout.numbers('hostTables', words, fill));
  binding.add('lsh-match', {
    refs: {
      codes: layout.table('hostTables', new Uint32Array(codes.buffer)),
      starts: shared(`starts ${keys} by ${size}`, sets * tables * (2 ** hashes + 1), startsOf(lists)),
      postings: shared(`postings ${keys} by ${bucket}`, sets * tables * keys, postingsOf(lists)),
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
