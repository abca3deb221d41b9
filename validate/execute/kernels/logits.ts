/**
 * Logits by which a layer chooses for all of its heads, and for the layers that follow it: left by its attention, or products
 * of their own; then the largest of each token, and the buffer cleared for the next step.
 */
import type { Ref } from '../../../kernels/calls.ts';
import { REDUCE } from '../../../kernels/group-scores.ts';
import { type CallBytes, countOf, type KernelBinder, type KernelUse, LOGITS, SCORES } from './kernel-use.ts';
import { multiply } from './scores.ts';

/** Logit of a token that no head has attended to: CURRENTF/Sparse-vLLM engine/sparse_controller.py. */
const UNSEEN = -1e20;

/** Logits of all heads, rows `stride` numbers apart, become one a token. */
const largest = (use: KernelUse, logits: Ref, count: number, stride: number): CallBytes => {
  const { binding, rows, batch, group } = use;
  const heads = (rows * group) / batch;
  const out = binding.layout.place('scores', 4 * batch * count);
  binding.add('reduce-scores', {
    refs: { scores: logits, out },
    ints: { rows: batch, group: heads, count, scoreStride: stride, outStride: count, reduce: REDUCE.max },
  });
  binding.add('preset', {
    refs: { out: logits },
    ints: { count: rows * group * stride },
    reals: { value: UNSEEN },
  });
  binding.leave(SCORES, out, 4 * batch * count);
  const bytes = 4 * rows * group * count;
  // Written with the products or by attention, and cleared.
  return { read: bytes, write: 2 * bytes };
};

/** Of a layer that attends to the best of its tokens only: its keys are read for them. */
export const ownLogits: KernelBinder = (use) => {
  const { binding, rows, group, headDim } = use;
  const count = countOf(use, 'tokens');
  if (count < 1) return null;
  const queries = binding.layout.place('kv', 2 * rows * group * headDim);
  const { read } = multiply(use, { rows, group, count, channels: headDim, isEach: true, queries });
  const logits = binding.left(SCORES, 4 * rows * group * count);
  if (logits === undefined) return null;
  const left = largest(use, logits, count, count);
  return { ...left, read: read + left.read };
};

/** Of a layer whose attention to all of its tokens has left them. */
export const observedLogits: KernelBinder = (use) => {
  const { binding, rows, group } = use;
  const count = countOf(use, 'tokens');
  const left = binding.take(LOGITS);
  const stride = (left?.bytes ?? 0) / (4 * rows * group);
  if (left === undefined || count < 1 || stride < count) return null;
  return largest(use, left.ref, count, stride);
};
