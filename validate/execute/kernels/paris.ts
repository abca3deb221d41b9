/** ParisKV's search: tiers of the query's sign patterns, collisions, and the rerank of those that collide most. */

import { SUBSPACE } from '../../../kernels/paris.ts';
import { byPosition, plus } from '../memory.ts';
import {
  CANDIDATES,
  COUNTS,
  countOf,
  type KernelBinder,
  type KernelUse,
  SCORES,
  shapeOf,
} from './kernel-use.ts';

const PATTERNS = 256;

/** Bytes of a candidate's codes, and of its row: weights stand behind the codes, so that both come at once. */
const rowOf = (dim: number) => {
  const [codeBytes, weightBytes] = [dim / 2, dim / 4];
  const rowBytes = codeBytes + weightBytes;
  return { codeBytes, rowBytes, strides: { codeStride: rowBytes, weightStride: rowBytes } };
};

/** Share of the keys that the tiers cover at 10K to 30K tokens (sim/policy/paris-search.ts). */
const RHO = 0.25;

/** Even counts of sign patterns, the same for all layers: tiers then cover what they would of real keys. */
const patternCounts = ({ binding, rows }: KernelUse, tokens: number, subspaces: number) =>
  binding.once(`patterns ${tokens}`, () => {
    const words = new Uint32Array(rows * subspaces * PATTERNS).fill(Math.ceil(tokens / PATTERNS));
    return binding.layout.table('tables', words);
  });

/** Tiers of the patterns, then the sum of tiers of each key's sign bytes. */
export const collide: KernelBinder = (use) => {
  const { binding, rows, group, headDim } = use;
  const tokens = countOf(use, 'tokens');
  const dim = shapeOf(use, 'dim');
  const subspaces = dim / SUBSPACE;
  if (tokens < 1) return null;
  const tiers = binding.layout.place('outputs', rows * subspaces * PATTERNS);
  binding.add('paris-tiers', {
    refs: {
      queries: binding.layout.place('kv', 2 * rows * group * headDim),
      signs: binding.layout.place('scores', 4 * dim),
      counts: patternCounts(use, tokens, subspaces),
      tiers,
    },
    ints: { rows, group, headDim, tokens },
    reals: { rho: RHO },
  });
  const read = rows * tokens * subspaces;
  const write = 2 * rows * tokens;
  const collisions = binding.layout.place('outputs', write);
  binding.add('paris-collide', {
    refs: { ids: binding.layout.place('codes', read), tiers, collisions },
    ints: { rows, tokens, subspaces, tokenStride: tokens, scoreStride: tokens },
  });
  binding.leave(COUNTS, collisions, write);
  return { read, write };
};

/** Products with the candidates' 4-bit codes; `decoded` = 1 writes their rows back. */
export const rerank: KernelBinder = (use) => {
  const { binding, rows, group, headDim } = use;
  const [count, tokens] = [countOf(use, 'count'), countOf(use, 'tokens')];
  const dim = shapeOf(use, 'dim');
  if (count < 1 || count > tokens) return null;
  const { layout } = binding;
  const decodedBytes = shapeOf(use, 'decoded') === 1 ? 2 * rows * count * dim : 0;
  const spread = () =>
    layout.numbers(
      'tables',
      rows * count,
      byPosition((i) => Math.floor(((i % count) * tokens) / count)),
    );
  const estimates = layout.place('scores', 4 * rows * count);
  const { codeBytes, rowBytes, strides } = rowOf(dim);
  // Normal numbers are finite weights; which codes stand before them takes no other time.
  const codes = layout.place('kv', rows * tokens * rowBytes);
  binding.add('paris-rerank', {
    refs: {
      queries: layout.place('kv', 2 * rows * group * headDim),
      signs: layout.place('scores', 4 * dim),
      candidates: binding.left(CANDIDATES, 4 * rows * count) ?? spread(),
      codes,
      weights: plus(codes, codeBytes),
      estimates,
      ...(decodedBytes === 0 ? {} : { decoded: layout.place('outputs', decodedBytes) }),
    },
    ints: {
      rows,
      group,
      headDim,
      count,
      idStride: count,
      tokenStride: tokens,
      estimateStride: count,
      ...strides,
    },
  });
  binding.leave(SCORES, estimates, 4 * rows * count);
  return { read: rows * count * rowBytes, write: decodedBytes };
};

/** Codes of keys that leave the window. */
export const encode: KernelBinder = (use) => {
  const { binding, rows, headDim } = use;
  const tokens = countOf(use, 'tokens');
  const dim = shapeOf(use, 'dim');
  if (tokens < 1) return null;
  const { layout } = binding;
  const { codeBytes, rowBytes, strides } = rowOf(dim);
  const ids = (rows * tokens * dim) / SUBSPACE;
  const codes = layout.place('outputs', rows * tokens * rowBytes);
  binding.add('paris-encode', {
    refs: {
      keys: layout.place('kv', 2 * rows * tokens * headDim),
      signs: layout.place('scores', 4 * dim),
      ids: layout.place('outputs', ids),
      codes,
      weights: plus(codes, codeBytes),
      counts: layout.place('outputs', 4 * rows * (dim / SUBSPACE) * PATTERNS),
    },
    ints: {
      rows,
      from: 0,
      to: tokens,
      headDim,
      pieceVectors: tokens,
      pieceStride: 1,
      pieceBytes: 2 * headDim * tokens,
      tokenStride: tokens,
      ...strides,
    },
  });
  return { read: 2 * rows * tokens * headDim, write: ids + rows * tokens * rowBytes };
};
