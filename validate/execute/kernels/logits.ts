/**
 * Logits by which a layer chooses for all of its heads, and for the layers that follow it: products of all query heads with
 * their keys, the largest of each token, and the buffer cleared for the next step.
 */
import { REDUCE } from '../../../kernels/group-scores.ts';
import { countOf, type KernelBinder, SCORES, shapeOf } from './kernel-use.ts';
import { multiply } from './scores.ts';

/** Logit of a token that no head has attended to: CURRENTF/Sparse-vLLM engine/sparse_controller.py. */
const UNSEEN = -1e20;

export const logits: KernelBinder = (use) => {
  const { binding, rows, batch, group, headDim } = use;
  const { layout } = binding;
  const count = countOf(use, 'tokens');
  if (count < 1 || shapeOf(use, 'keys') !== 1) return null;
  const bytes = 4 * rows * group * count;
  const queries = layout.place('kv', 2 * rows * group * headDim);
  const { read } = multiply(use, { rows, group, count, channels: headDim, isEach: true, queries });
  const scores = binding.left(SCORES, bytes);
  if (scores === undefined) return null;
  const largest = layout.place('scores', 4 * batch * count);
  const heads = (rows * group) / batch;
  binding.add('reduce-scores', {
    refs: { scores, out: largest },
    ints: { rows: batch, group: heads, count, scoreStride: count, outStride: count, reduce: REDUCE.max },
  });
  binding.add('preset', {
    refs: { out: scores },
    ints: { count: rows * group * count },
    reals: { value: UNSEEN },
  });
  binding.leave(SCORES, largest, 4 * batch * count);
  return { read: read + bytes, write: 2 * bytes };
};
