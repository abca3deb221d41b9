/** Rows laid side by side in device memory: runs of a window, rows of chosen clusters, lists of ids. */
import { COPY_MODES, type Ref, ROW_MODES } from '../../../kernels/calls.ts';
import { commonDivisor } from '../../../sim/timing/tiling.ts';
import { byPosition, type FillTable } from '../memory.ts';
import {
  type CallBytes,
  CODES,
  countOf,
  type KernelBinder,
  type KernelUse,
  LAID_ROWS,
  shapeOf,
} from './kernel-use.ts';
import { wideCodes } from './pq.ts';

const ID_BYTES = 4;
/** Of so many slots one is looked up. */
const LOOKED_UP_EVERY = 4;

/** All row numbers once, neighbours far apart, each times `stride`. */
const scattered =
  (rows: number, stride = 1): FillTable =>
  (out) => {
    let step = Math.max(1, Math.floor(0.618 * rows));
    while (commonDivisor(step, rows) > 1) step++;
    for (let i = 0, at = 0; i < rows; i++) {
      out[i] = stride * at;
      at += step;
      if (at >= rows) at -= rows;
    }
  };

const moveRows = (
  { binding }: KernelUse,
  kernel: 'gather' | 'scatter',
  rows: number,
  rowBytes: number,
  index: FillTable,
  places: { readonly source: Ref; readonly target: Ref },
): void => {
  binding.add(kernel, {
    refs: { ...places, index: binding.layout.numbers('tables', rows, index) },
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

/** Rows of all heads from where they lie scattered. */
const collect = (use: KernelUse, rows: number, rowBytes: number): CallBytes & { readonly target: Ref } => {
  const { layout } = use.binding;
  const places = {
    source: layout.place('kv', rows * rowBytes),
    target: use.binding.left(LAID_ROWS, rows * rowBytes) ?? layout.place('outputs', rows * rowBytes),
  };
  moveRows(use, 'gather', rows, rowBytes, scattered(rows), places);
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

/** Chosen rows; with `distinct`, so many of them that the others repeat and are read once; with `centroids`, of wide codes. */
export const gather: KernelBinder = (use) => {
  const { binding } = use;
  const [each, distinct] = [countOf(use, 'rows'), countOf(use, 'distinct')];
  const rowBytes = 4 * Math.round(shapeOf(use, 'rowBytes') / 4);
  if (each < 1 || rowBytes < 4) return null;
  const rows = use.rows * each;
  if (distinct === 0) return collect(use, rows, rowBytes);
  const read = use.rows * distinct * rowBytes;
  const index = byPosition((i) => Math.floor((i * distinct) / each));
  const centroids = shapeOf(use, 'centroids');
  const source = centroids > 0 ? wideCodes(use, read, centroids) : binding.layout.place('kv', read);
  const target = binding.layout.place('outputs', rows * rowBytes);
  moveRows(use, 'gather', rows, rowBytes, index, { source, target });
  if (centroids > 0) binding.leave(CODES, target, rows * rowBytes);
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
  const target = binding.layout.place('kv', misses * rowBytes);
  moveRows(use, 'scatter', misses, rowBytes, scattered(misses), { source, target });
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
  moveRows(use, 'gather', ids, ID_BYTES, scattered(ids, LOOKED_UP_EVERY), {
    source: binding.layout.place('kv', LOOKED_UP_EVERY * ids * ID_BYTES),
    target: binding.layout.place('outputs', ids * ID_BYTES),
  });
  // The list itself is the index of the look-up.
  return { read: read + 2 * ids * ID_BYTES, write: write + ids * ID_BYTES };
};
