/**
 * DeltaKV's residuals: latents and scales (delta.ts) of `tokens` tokens = down · (x - mean of the token's references), the
 * difference rounded to bf16 before the product.
 * rows bf16 [tokens, width], references bf16 [., width], near u32 [tokens, neighbours] (rows of references; 2^32 - 1 =
 * fewer), down bf16 [latentDim, width], latents u8 [tokens, latentDim · bits / 8], scales f16 [tokens, latentDim / 32, 2]
 * (bits 4 only). The projection is linear, as the policy's (sim/policy/reference-residual.ts); the authors train a gated
 * one. width = K and V of all heads; width and latentDim multiples of 32. CURRENTF/Sparse-vLLM utils/compressor.py.
 */
import type { KernelSpec } from '../calls.ts';
import { encodeLatents, latentBytes, scaleBytes } from '../delta.ts';
import { bf16Of, fromBf16, ofBf16, toBf16, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';

export const NONE = 0xffffffff;

/** The mean of references [., width] that `near` names, zero where there are none. */
export const meanOf = (references: Uint8Array, width: number, near: Uint32Array): Float64Array => {
  const mean = new Float64Array(width);
  const found = near.filter((at) => at !== NONE);
  for (const at of found)
    fromBf16(references.subarray(2 * width * at), width).forEach((value, c) => {
      mean[c] += value / found.length;
    });
  return mean;
};

export const call = {
  name: 'delta-encode',
  refs: ['rows', 'references', 'near', 'down', 'latents', 'scales'],
  writes: ['latents', 'scales'],
  ints: ['tokens', 'width', 'latentDim', 'neighbours', 'bits'],
  reals: [],
  optional: ['scales'],
  extents: ({ tokens, width, latentDim, neighbours, bits }) => ({
    rows: 2 * tokens * width,
    near: 4 * tokens * neighbours,
    down: 2 * latentDim * width,
    latents: tokens * latentBytes(latentDim, bits),
    scales: tokens * scaleBytes(latentDim, bits),
  }),
  reference({ ints: { tokens, width, latentDim, neighbours, bits }, bytes, has }) {
    const near = u32View(bytes('near'));
    const down = fromBf16(bytes('down'), latentDim * width);
    const scales = has('scales') ? bytes('scales') : new Uint8Array(0);
    for (let token = 0; token < tokens; token++) {
      const row = fromBf16(bytes('rows').subarray(2 * width * token), width);
      const base = meanOf(
        bytes('references'),
        width,
        near.subarray(token * neighbours, (token + 1) * neighbours),
      );
      const residual = base.map((value, c) => ofBf16(bf16Of(row[c] - value)));
      const z = Float64Array.from({ length: latentDim }, (_, i) => {
        let sum = 0;
        for (let c = 0; c < width; c++) sum += down[i * width + c] * residual[c];
        return sum;
      });
      const at = [latentBytes(latentDim, bits), scaleBytes(latentDim, bits)].map((size) => size * token);
      encodeLatents(z, bits, bytes('latents').subarray(at[0]), scales.subarray(at[1]));
    }
  },
  randomCase(random) {
    const tokens = random.integer(1, 40);
    const width = 32 * random.integer(1, 8);
    const latentDim = 32 * random.integer(1, 4);
    const neighbours = random.integer(1, 4);
    const bits = random.among([4, 16]);
    const references = random.integer(1, 9);
    const near = Uint32Array.from({ length: tokens * neighbours }, () =>
      random.integer(0, 5) === 0 ? NONE : random.integer(0, references - 1),
    );
    const down = toBf16(
      Float64Array.from({ length: latentDim * width }, () => random.normal() / Math.sqrt(width)),
    );
    const [bytes, scales] = [latentBytes(latentDim, bits), scaleBytes(latentDim, bits)];
    return {
      label: `delta-encode tokens ${tokens} width ${width} latents ${latentDim} bits ${bits}`,
      buffers: {
        rows: { tier: 'hbm', data: randomBf16(random, tokens * width) },
        references: { tier: 'hbm', data: randomBf16(random, references * width) },
        near: { tier: 'hbm', data: u32Bytes(near) },
        down: { tier: 'hbm', data: down },
        latents: { tier: 'hbm', data: tokens * bytes },
        ...(bits === 16 ? {} : { scales: { tier: 'hbm', data: tokens * scales } as const }),
      },
      ints: { tokens, width, latentDim, neighbours, bits },
      // The residual is rounded to bf16 before the product: a number between two codes may take either.
      outputs: [
        bits === 16
          ? { ref: 'latents', bytes: tokens * bytes, type: 'bf16', tolerance: 1e-2 }
          : { ref: 'latents', bytes: tokens * bytes, type: 'u8', tolerance: 2e-2 },
        ...(bits === 16
          ? []
          : [{ ref: 'scales', bytes: tokens * scales, type: 'f16', tolerance: 2e-3 } as const]),
      ],
    };
  },
} satisfies KernelSpec;
