/**
 * Rates of a GPU's arithmetic as a profile has them. Types that it leaves out run as the next wider; products of other types
 * than bf16 keep its share of the best.
 */
import type { Profile } from '../hardware/schema.ts';

export const FLOPS_PER_TFLOP_NS = 1000;

/** Rates of all element types from the types that the profile states: a missing one runs as the next wider. */
const byType = (
  compute: Profile['accelerator']['compute'],
  rate: (type: 'bf16' | 'fp8' | 'int8' | 'fp32') => number,
) => {
  const bf16 = rate('bf16');
  const fp8 = compute.fp8 ? rate('fp8') : bf16;
  const int8 = compute.int8 ? rate('int8') : fp8;
  return { bf16, fp16: bf16, fp8, int8, fp32: rate('fp32') };
};

/** Flops per ns by element type: at best, and of matrix products by the law that was fitted to them. */
export const computeRates = ({ compute, gemm }: Profile['accelerator']) => {
  const achieved = byType(compute, (type) => (compute[type]?.achievedTflops.value ?? 0) * FLOPS_PER_TFLOP_NS);
  // The GEMM law is fitted on bf16; other types keep its share of what they achieve at best.
  const bf16Best = compute.bf16.achievedTflops.value / compute.bf16.peakTflops.value;
  const shareOfBest = Math.min(1, gemm.computeEfficiency.value / bf16Best);
  const products = byType(
    compute,
    (type) => (compute[type]?.achievedTflops.value ?? 0) * FLOPS_PER_TFLOP_NS * shareOfBest,
  );
  return { achieved, products };
};
