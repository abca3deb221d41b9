/**
 * Half-precision formats as float32: IEEE 754 binary16 by a 65,536-entry table, bfloat16 by its bits.
 * Byte order is the file's (little-endian), read byte by byte, so alignment and host order never matter.
 */

const float16Table = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits++) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) float16Table[bits] = fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  else if (exponent === 0) float16Table[bits] = (sign * fraction) / 16777216;
  else float16Table[bits] = sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

export function decodeFloat16(bytes: Uint8Array, dst: Float32Array): void {
  const table = float16Table;
  for (let i = 0, p = 0; i < dst.length; i++, p += 2) dst[i] = table[bytes[p] | (bytes[p + 1] << 8)];
}

export function decodeBfloat16(bytes: Uint8Array, dst: Float32Array): void {
  const bits = new Uint32Array(dst.buffer, dst.byteOffset, dst.length);
  for (let i = 0, p = 0; i < bits.length; i++, p += 2) bits[i] = (bytes[p] << 16) | (bytes[p + 1] << 24);
}

export function decodeFloat32(bytes: Uint8Array, dst: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < dst.length; i++) dst[i] = view.getFloat32(i * 4, true);
}

/** Nearest half, ties to even; beyond 65504 (after rounding) infinity, as the standard says. */
export function encodeFloat16(src: Float32Array, bytes: Uint8Array): void {
  for (let i = 0; i < src.length; i++) {
    const half = halfBits(src[i]);
    bytes[2 * i] = half & 255;
    bytes[2 * i + 1] = half >> 8;
  }
}

function halfBits(x: number): number {
  wordAsFloat[0] = x;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  if (size >= 0x477ff000) return sign | 0x7c00;
  if (size < 0x38800000) {
    // Subnormal halves count 2^-24; the product is exact, so one rounding happens here.
    return sign | roundHalfEven((x < 0 ? -x : x) * 16777216);
  }
  const rounded = size + 0xfff + ((size >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? floor + 1 : floor;
}
