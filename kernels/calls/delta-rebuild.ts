/**
 * DeltaKV's rebuilding: out bf16 [tokens, width] = mean of the token's references + up · z, z the coordinates of token
 * chosen[i] (rounded to bf16 before the product). chosen u32 [tokens] names entries of near u32 [., neighbours], latents
 * and scales as in delta-encode; references bf16 [., width]; up bf16 [width, latentDim]. With a row laid out head by head,
 * K then V, a rebuilt row is kvHeads pages of one token. CURRENTF/Sparse-vLLM engine/cache_manager.py.
 */
import type { KernelSpec } from '../calls.ts';
import { decodeLatents, encodeLatents, latentBytes, scaleBytes } from '../delta.ts';
import { bf16Of, fromBf16, ofBf16, toBf16, u16View, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';
import { meanOf, NONE } from './delta-encode.ts';

export const call = {
  name: 'delta-rebuild',
  refs: ['chosen', 'latents', 'scales', 'near', 'references', 'up', 'out'],
  writes: ['out'],
  ints: ['tokens', 'width', 'latentDim', 'neighbours', 'bits'],
  reals: [],
  optional: ['scales'],
  extents: ({ tokens, width, latentDim }) => ({
    chosen: 4 * tokens,
    up: 2 * latentDim * width,
    out: 2 * tokens * width,
  }),
  reference({ ints: { tokens, width, latentDim, neighbours, bits }, bytes, has }) {
    const [chosen, near] = [u32View(bytes('chosen')), u32View(bytes('near'))];
    const up = fromBf16(bytes('up'), latentDim * width);
    const scales = has('scales') ? bytes('scales') : new Uint8Array(0);
    const out = u16View(bytes('out'));
    for (let i = 0; i < tokens; i++) {
      const token = chosen[i];
      const z = decodeLatents(
        bytes('latents').subarray(token * latentBytes(latentDim, bits)),
        scales.subarray(token * scaleBytes(latentDim, bits)),
        latentDim,
        bits,
      ).map((value) => ofBf16(bf16Of(value)));
      const row = meanOf(
        bytes('references'),
        width,
        near.subarray(token * neighbours, (token + 1) * neighbours),
      );
      for (let c = 0; c < width; c++) {
        for (let r = 0; r < latentDim; r++) row[c] += up[c * latentDim + r] * z[r];
        out[i * width + c] = bf16Of(row[c]);
      }
    }
  },
  randomCase(random) {
    const stored = random.integer(1, 60);
    const tokens = random.integer(1, 150);
    const width = 32 * random.integer(1, 8);
    const latentDim = 32 * random.integer(1, 4);
    const neighbours = random.integer(1, 4);
    const bits = random.among([4, 16]);
    const references = random.integer(1, 9);
    const near = Uint32Array.from({ length: stored * neighbours }, () =>
      random.integer(0, 5) === 0 ? NONE : random.integer(0, references - 1),
    );
    const up = toBf16(
      Float64Array.from({ length: latentDim * width }, () => random.normal() / Math.sqrt(latentDim)),
    );
    const [bytes, scaleSize] = [latentBytes(latentDim, bits), scaleBytes(latentDim, bits)];
    const latents = new Uint8Array(stored * bytes);
    const scales = new Uint8Array(stored * scaleSize);
    for (let token = 0; token < stored; token++)
      encodeLatents(
        Float64Array.from({ length: latentDim }, () => random.normal()),
        bits,
        latents.subarray(token * bytes),
        scales.subarray(token * scaleSize),
      );
    const chosen = Uint32Array.from({ length: tokens }, () => random.integer(0, stored - 1));
    return {
      label: `delta-rebuild tokens ${tokens} width ${width} latents ${latentDim} bits ${bits}`,
      buffers: {
        chosen: { tier: 'hbm', data: u32Bytes(chosen) },
        latents: { tier: 'hbm', data: latents },
        near: { tier: 'hbm', data: u32Bytes(near) },
        references: { tier: 'hbm', data: randomBf16(random, references * width) },
        up: { tier: 'hbm', data: up },
        out: { tier: 'hbm', data: 2 * tokens * width },
        ...(bits === 16 ? {} : { scales: { tier: 'hbm', data: scales } as const }),
      },
      ints: { tokens, width, latentDim, neighbours, bits },
      outputs: [{ ref: 'out', bytes: 2 * tokens * width, type: 'bf16', tolerance: 4e-3 }],
    };
  },
} satisfies KernelSpec;
