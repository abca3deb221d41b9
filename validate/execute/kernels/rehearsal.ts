/** InfiniGen's rehearsal: partial queries by partial weights, their products with partial keys, and how many lie near the largest. */
import { countOf, type KernelBinder, SCORES, shapeOf } from './kernel-use.ts';
import { multiply } from './scores.ts';

/** A hidden state is as wide as the query heads together (sim/policy/policies/infinigen.ts). */
export const rehearsal: KernelBinder = (use) => {
  const { binding, rows, batch, kvHeads, group, headDim, perQuery } = use;
  const { layout } = binding;
  const count = countOf(use, 'tokens');
  const columns = shapeOf(use, 'columns');
  if (count < 1 || columns < 1) return null;
  const heads = kvHeads * group;
  const [width, partialWidth] = [heads * headDim, heads * columns];
  const weights = 2 * partialWidth * width;
  const queries = layout.place('outputs', 2 * batch * partialWidth);
  binding.add('gemm', {
    refs: {
      x: layout.place('kv', 2 * batch * width),
      weights: layout.place('kv', weights),
      out: queries,
    },
    ints: { m: batch, n: partialWidth, k: width, outType: 1, units: 0 },
  });
  const isEach = perQuery || group === 1;
  const { read } = multiply(use, { rows, group, count, channels: columns, isEach, queries });
  const chosenRows = isEach ? rows * group : rows;
  const bytes = 4 * chosenRows * count;
  const scores = binding.left(SCORES, bytes);
  if (scores === undefined) return null;
  binding.add('near-count', {
    refs: { scores, counts: layout.place('outputs', 4 * chosenRows) },
    ints: { rows: chosenRows, count, scoreStride: count },
    reals: { alpha: shapeOf(use, 'alpha') },
  });
  // What counts them leaves them for the selection.
  binding.leave(SCORES, scores, bytes);
  return { read: weights + read, write: 0 };
};
