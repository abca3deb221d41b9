/**
 * DeltaKV's stored form in the oracles of the delta-* calls: a token is what it adds to the mean of its references, in
 * `latentDim` coordinates, each group of 32 of them with a scale and a minimum in half precision and 4-bit codes
 * (bits 4), or in bf16 (bits 16). CURRENTF/Sparse-vLLM utils/compressor.py; sim/policy/reference-residual.ts.
 */
import { bf16Of, f16Of, ofBf16, ofF16, u16View } from './floats.ts';

export const GROUP = 32;

/** Bytes of the coordinates of one token, and of its scales and minima (f16 pairs). */
export const latentBytes = (latentDim: number, bits: number): number => (latentDim * bits) / 8;
export const scaleBytes = (latentDim: number, bits: number): number =>
  bits === 16 ? 0 : (4 * latentDim) / GROUP;

/** Writes one token's coordinates at the start of `latents` and `scales`. Even coordinates are the low halves of bytes. */
export const encodeLatents = (
  z: Float64Array,
  bits: number,
  latents: Uint8Array,
  scales: Uint8Array,
): void => {
  if (bits === 16) {
    const out = u16View(latents);
    z.forEach((value, i) => {
      out[i] = bf16Of(value);
    });
    return;
  }
  const pairs = u16View(scales);
  for (let group = 0; group < z.length / GROUP; group++) {
    const own = z.subarray(group * GROUP, (group + 1) * GROUP);
    const least = own.reduce((a, b) => Math.min(a, b));
    const most = own.reduce((a, b) => Math.max(a, b));
    pairs[2 * group] = f16Of((most - least) / 15);
    pairs[2 * group + 1] = f16Of(least);
    const [scale, offset] = [ofF16(pairs[2 * group]), ofF16(pairs[2 * group + 1])];
    own.forEach((value, i) => {
      const code = scale === 0 ? 0 : Math.min(15, Math.max(0, Math.round((value - offset) / scale)));
      const at = (group * GROUP + i) >> 1;
      latents[at] = i % 2 === 0 ? code : latents[at] | (code << 4);
    });
  }
};

export const decodeLatents = (
  latents: Uint8Array,
  scales: Uint8Array,
  latentDim: number,
  bits: number,
): Float64Array =>
  Float64Array.from({ length: latentDim }, (_, i) => {
    if (bits === 16) return ofBf16(u16View(latents)[i]);
    const pairs = u16View(scales);
    const group = 2 * Math.floor(i / GROUP);
    return ofF16(pairs[group + 1]) + ((latents[i >> 1] >> (4 * (i & 1))) & 15) * ofF16(pairs[group]);
  });
