/** MagicPIG's sampling: codes of the queries by sign hashes on the GPU, and the look-up of their keys on the CPU. */
import { countOf, type KernelBinder, shapeOf } from './kernel-use.ts';

export const hash: KernelBinder = (use) => {
  const { binding, rows, headDim } = use;
  const count = countOf(use, 'count');
  const [tables, hashes] = [shapeOf(use, 'tables'), shapeOf(use, 'hashes')];
  if (count < 1 || hashes > 16) return null;
  const projections = 4 * tables * hashes * headDim;
  const vectors = 2 * rows * count * headDim;
  const codes = 2 * rows * tables * count;
  binding.add('lsh-hash', {
    refs: {
      vectors: binding.layout.place('kv', vectors),
      // The same for all layers.
      projections: binding.once('projections', () => binding.layout.place('scores', projections)),
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
