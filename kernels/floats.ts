/** Element types of buffers: f32, bf16 and f16 to and from numbers, round to nearest even (IEEE 754-2019 section 4.3.1). */

const word = new Uint32Array(1);
const single = new Float32Array(word.buffer);

export const bf16Of = (value: number): number => {
  single[0] = value;
  const bits = word[0];
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
};

export const ofBf16 = (bits: number): number => {
  word[0] = bits << 16;
  return single[0];
};

export const f16Of = (value: number): number => {
  single[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  if (Number.isNaN(value)) return sign | 0x7e00;
  const size = Math.abs(single[0]);
  if (size >= 65_520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24);
  const exponent = ((bits >>> 23) & 0xff) - 127;
  // A mantissa that rounds up to 1024 carries into the exponent, as it must.
  return sign | (((exponent + 15) << 10) + roundEven((size / 2 ** exponent - 1) * 1024));
};

const roundEven = (value: number): number => {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
};

export const ofF16 = (bits: number): number => {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
};

/** Numbers as bf16 bytes, and back. */
export const toBf16 = (values: ArrayLike<number>): Uint8Array => {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = bf16Of(values[i]);
  return new Uint8Array(out.buffer);
};

export const fromBf16 = (bytes: Uint8Array, count: number): Float32Array => {
  const bits = new Uint16Array(bytes.slice(0, 2 * count).buffer);
  return Float32Array.from(bits, ofBf16);
};

/** A typed view of bytes, copied where their place in the buffer is not aligned. */
export const f32View = (bytes: Uint8Array): Float32Array =>
  bytes.byteOffset % 4 === 0
    ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2)
    : new Float32Array(bytes.slice(0, bytes.byteLength & ~3).buffer);

export const u32View = (bytes: Uint8Array): Uint32Array =>
  bytes.byteOffset % 4 === 0
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2)
    : new Uint32Array(bytes.slice(0, bytes.byteLength & ~3).buffer);

export const u16View = (bytes: Uint8Array): Uint16Array =>
  bytes.byteOffset % 2 === 0
    ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 1)
    : new Uint16Array(bytes.slice(0, bytes.byteLength & ~1).buffer);
