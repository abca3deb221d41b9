/**
 * Bytes of a stored weight by what a config.json says: torch_dtype, and quantization_config where weights are coded.
 * GPTQ and AWQ keep `bits` bits a weight of the layers' matrices and, a group of weights along the input, a scale of 16
 * bits and a zero of `bits` (AutoGPTQ, auto_gptq/nn_modules/qlinear/qlinear_cuda.py; AutoAWQ, awq/modules/linear/gemm.py).
 * Products read them as fast as plain weights, which kernels near at up to 16 to 32 tokens (Marlin, arXiv 2408.11743).
 */
import * as z from 'zod';
import type { ModelShape } from './shape.ts';

/** Methods that code the layers' matrices alone, and compute in the type that torch_dtype names. */
const WEIGHT_ONLY = ['gptq', 'awq'];
/** AwqConfig's bits, and group_size of AwqConfig and GPTQConfig (transformers/utils/quantization_config.py). */
const DEFAULT_BITS = 4;
const DEFAULT_GROUP = 128;
const SCALE_BITS = 16;

/** A config's quantization_config. Of methods that are not known here, weights count as torch_dtype says, which is noted. */
export const quantizationSchema = z
  .looseObject({
    quant_method: z.string(),
    bits: z.number().positive().max(16).nullish(),
    /** -1: one group is a whole column, whose scale is nothing beside its codes. */
    group_size: z.number().int().nullish(),
  })
  .refine(({ quant_method, bits }) => quant_method !== 'gptq' || bits, {
    path: ['bits'],
    message: 'expected beside quant_method gptq',
  });

interface Numbers {
  readonly torch_dtype?: string | null | undefined;
  readonly dtype?: string | null | undefined;
  readonly quantization_config?: z.infer<typeof quantizationSchema> | null | undefined;
}

type ElementBytes = Pick<ModelShape, 'weightElementBytes' | 'matrixElementBytes' | 'guessedWeights'>;

/** As torch prints its types, less `torch.`. */
const BYTES_OF_DTYPE: Readonly<Record<string, number>> = {
  float64: 8,
  float32: 4,
  bfloat16: 2,
  float16: 2,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
};
const USUAL_BYTES = 2;

/** Bytes of a weight, of the layers' matrices and of the rest; and what was not understood. */
export const elementBytesOf = ({ torch_dtype, dtype, quantization_config: coded }: Numbers): ElementBytes => {
  const method = coded?.quant_method ?? null;
  if (method === 'fp8') return { weightElementBytes: 1, matrixElementBytes: 1, guessedWeights: null };
  const type = torch_dtype ?? dtype ?? 'bfloat16';
  const known = BYTES_OF_DTYPE[type];
  const plain = known ?? USUAL_BYTES;
  const unknownType = known === undefined ? `torch_dtype ${type}` : null;
  if (method === null || !WEIGHT_ONLY.includes(method)) {
    const guessedWeights = method === null ? unknownType : `quant_method ${method}`;
    return { weightElementBytes: plain, matrixElementBytes: plain, guessedWeights };
  }
  const bits = coded?.bits ?? DEFAULT_BITS;
  const group = coded?.group_size ?? DEFAULT_GROUP;
  const ofGroup = group > 0 ? (SCALE_BITS + bits) / group : 0;
  return {
    weightElementBytes: plain,
    matrixElementBytes: (bits + ofGroup) / 8,
    guessedWeights: unknownType,
  };
};
