/** Rows laid side by side in device memory: runs of a window, rows of chosen clusters, lists of ids. */
import { COPY_MODES, type Ref, ROW_MODES } from '../../../kernels/calls.ts';
import { type CallBytes, countOf, type KernelBinder, type KernelUse, shapeOf } from './kernel-use.ts';

const ID_BYTES = 4;
/** Of so many rows one is chosen, where rows are picked from more. */
const CHOSEN_EVERY = 4;

/** Row numbers in a walk that visits many places of `of` rows. */
const scattered = (rows: number, of: number): Uint32Array =>
  Uint32Array.from({ length: rows }, (_, i) => Math.floor(((Math.imul(i, 0x9e3779b1) >>> 0) / 2 ** 32) * of));

const moveRows = (
  { binding }: KernelUse,
  kernel: 'gather' | 'scatter',
  rows: number,
  rowBytes: number,
  index: Uint32Array,
  places: { readonly source: Ref; readonly target: Ref },
): void => {
  binding.add(kernel, {
    refs: { ...places, index: binding.layout.table('tables', index) },
    ints: {
      rows,
      rowBytes,
      sourceStride: rowBytes,
      targetStride: rowBytes,
      mode: ROW_MODES.indexOf('kernel'),
      units: 0,
    },
  });
};

/** Rows of all heads from `of` times as many; their bytes once. */
const collect = (use: KernelUse, rows: number, rowBytes: number): CallBytes & { readonly target: Ref } => {
  const { layout } = use.binding;
  const held = CHOSEN_EVERY * rows;
  const places = {
    source: layout.place('kv', held * rowBytes),
    target: layout.place('outputs', rows * rowBytes),
  };
  moveRows(use, 'gather', rows, rowBytes, scattered(rows, held), places);
  return { read: rows * rowBytes, write: rows * rowBytes, target: places.target };
};

/** One run a row from place to place. */
export const copy: KernelBinder = (use) => {
  const { binding, rows } = use;
  const bytes = 4 * Math.round(countOf(use, 'bytes') / 4);
  if (bytes < 4) return null;
  binding.add('copy', {
    refs: {
      source: binding.layout.place('kv', rows * bytes),
      target: binding.layout.place('outputs', rows * bytes),
    },
    ints: {
      count: rows,
      bytes,
      sourceStride: bytes,
      targetStride: bytes,
      mode: COPY_MODES.indexOf('kernel'),
    },
  });
  return { read: rows * bytes, write: rows * bytes };
};

/** Chosen rows; with `distinct`, so many of them that the others repeat and are read once. */
export const gather: KernelBinder = (use) => {
  const { binding } = use;
  const [each, distinct] = [countOf(use, 'rows'), countOf(use, 'distinct')];
  const rowBytes = 4 * Math.round(shapeOf(use, 'rowBytes') / 4);
  if (each < 1 || rowBytes < 4) return null;
  const rows = use.rows * each;
  if (distinct === 0) return collect(use, rows, rowBytes);
  const read = use.rows * distinct * rowBytes;
  const index = Uint32Array.from({ length: rows }, (_, i) => Math.floor((i * distinct) / each));
  moveRows(use, 'gather', rows, rowBytes, index, {
    source: binding.layout.place('kv', read),
    target: binding.layout.place('outputs', rows * rowBytes),
  });
  return { read, write: rows * rowBytes };
};

/** What is attended exactly is laid side by side; what had missed is written to the cache as well. */
export const executionBuffer: KernelBinder = (use) => {
  const { binding } = use;
  const [rows, misses] = ['rows', 'misses'].map((name) => use.rows * countOf(use, name));
  const rowBytes = shapeOf(use, 'rowBytes');
  if (rows < 1 || rowBytes % 4 !== 0) return null;
  const { target: source, read, write } = collect(use, rows, rowBytes);
  if (misses < 1) return { read, write };
  const held = CHOSEN_EVERY * misses;
  // No row twice: one of each stretch of the cache.
  const index = Uint32Array.from({ length: misses }, (_, i) => CHOSEN_EVERY * i + (i % CHOSEN_EVERY));
  const target = binding.layout.place('kv', held * rowBytes);
  moveRows(use, 'scatter', misses, rowBytes, index, { source, target });
  return { read, write: write + misses * rowBytes };
};

/** Ids of chosen clusters are listed; with `lookUp` each is looked up in the table of slots. */
export const tokenIds: KernelBinder = (use) => {
  const { binding } = use;
  const tokens = countOf(use, 'tokens');
  const clusterTokens = shapeOf(use, 'clusterTokens');
  const lists = Math.round(tokens / clusterTokens);
  if (lists < 1) return null;
  const { read, write } = collect(use, use.rows * lists, ID_BYTES * clusterTokens);
  if (shapeOf(use, 'lookUp') === 0) return { read, write };
  const ids = use.rows * lists * clusterTokens;
  moveRows(use, 'gather', ids, ID_BYTES, scattered(ids, CHOSEN_EVERY * ids), {
    source: binding.layout.place('kv', CHOSEN_EVERY * ids * ID_BYTES),
    target: binding.layout.place('outputs', ids * ID_BYTES),
  });
  // The list itself is the index of the look-up.
  return { read: read + 2 * ids * ID_BYTES, write: write + ids * ID_BYTES };
};
