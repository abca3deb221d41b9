/**
 * SHA-256 (FIPS 180-4) as a synchronous stream in plain TypeScript, so that a digest is the same in Node, a worker
 * and a page, and the canonical JSON that experiments and results are hashed in.
 */
import { SimError } from '../error.ts';

/** Round constants: the first 32 fraction bits of the cube roots of the first 64 primes (FIPS 180-4 §4.2.2). */
const firstPrimes = (count: number): number[] => {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((p) => n % p !== 0)) primes.push(n);
  return primes;
};

/** First 32 fraction bits of the degree-th root of n, in integers. */
const rootFraction = (n: number, degree: 2 | 3): number => {
  const target = BigInt(n) << BigInt(32 * degree);
  let low = 0n;
  let high = 1n << 40n;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** BigInt(degree) <= target) low = middle;
    else high = middle;
  }
  return Number(low & 0xffffffffn) | 0;
};

const K = Int32Array.from(firstPrimes(64), (p) => rootFraction(p, 3));
const INITIAL = Int32Array.from(firstPrimes(8), (p) => rootFraction(p, 2));
const schedule = new Int32Array(64);

/** Absorbs the 64-byte blocks of bytes[from .. to) into the state. */
const compress = (state: Int32Array, bytes: Uint8Array, from: number, to: number): void => {
  const w = schedule;
  const k = K;
  for (let at = from; at < to; at += 64) {
    for (let i = 0; i < 16; i++) {
      const p = at + i * 4;
      w[i] = (bytes[p] << 24) | (bytes[p + 1] << 16) | (bytes[p + 2] << 8) | bytes[p + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + (g ^ (e & (f ^ g))) + k[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] = (state[0] + a) | 0;
    state[1] = (state[1] + b) | 0;
    state[2] = (state[2] + c) | 0;
    state[3] = (state[3] + d) | 0;
    state[4] = (state[4] + e) | 0;
    state[5] = (state[5] + f) | 0;
    state[6] = (state[6] + g) | 0;
    state[7] = (state[7] + h) | 0;
  }
};

/** UTF-8 of a string; lone surrogates become U+FFFD, as in the Encoding standard. */
const utf8 = (text: string): Uint8Array => {
  const bytes = new Uint8Array(text.length * 3);
  let n = 0;
  for (let i = 0; i < text.length; i++) {
    let code = text.codePointAt(i) ?? 0;
    if (code > 0xffff) i++;
    else if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) bytes[n++] = code;
    else if (code < 0x800) {
      bytes[n++] = 0xc0 | (code >> 6);
      bytes[n++] = 0x80 | (code & 63);
    } else {
      if (code < 0x10000) bytes[n++] = 0xe0 | (code >> 12);
      else {
        bytes[n++] = 0xf0 | (code >> 18);
        bytes[n++] = 0x80 | ((code >> 12) & 63);
      }
      bytes[n++] = 0x80 | ((code >> 6) & 63);
      bytes[n++] = 0x80 | (code & 63);
    }
  }
  return bytes.subarray(0, n);
};

/** A running SHA-256. What was added in pieces equals what was added at once, for bytes and typed arrays. */
export class Digest {
  readonly #state = INITIAL.slice();
  readonly #pending = new Uint8Array(64);
  readonly #one = new Float64Array(1);
  #pendingBytes = 0;
  #sizeBytes = 0;

  /** Raw bytes, without a length: the caller keeps pieces apart where that matters. */
  addBytes(bytes: Uint8Array): void {
    let at = 0;
    this.#sizeBytes += bytes.length;
    if (this.#pendingBytes > 0) {
      at = Math.min(64 - this.#pendingBytes, bytes.length);
      this.#pending.set(bytes.subarray(0, at), this.#pendingBytes);
      this.#pendingBytes += at;
      if (this.#pendingBytes < 64) return;
      compress(this.#state, this.#pending, 0, 64);
    }
    const whole = at + Math.floor((bytes.length - at) / 64) * 64;
    compress(this.#state, bytes, at, whole);
    this.#pending.set(bytes.subarray(whole));
    this.#pendingBytes = bytes.length - whole;
  }

  /** The 8 bytes of a double, little-endian; every NaN counts as the same, -0 and 0 differ. */
  addNumber(x: number): void {
    this.#one[0] = Number.isNaN(x) ? Number.NaN : x;
    this.addFloat64(this.#one);
  }

  /** UTF-8 bytes behind their count, so that ('ab', 'c') and ('a', 'bc') differ. */
  addString(text: string): void {
    const bytes = utf8(text);
    this.addNumber(bytes.length);
    this.addBytes(bytes);
  }

  /** The elements' bytes as they lie in memory (little-endian on every machine that runs JavaScript today). */
  addFloat32(values: Float32Array): void {
    this.addBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  addFloat64(values: Float64Array): void {
    this.addBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  addInt32(values: Int32Array): void {
    this.addBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  /** The digest of all that was added so far, 64 lower-case hex digits. More may be added afterwards. */
  hex(): string {
    const state = this.#state.slice();
    const last = new Uint8Array(this.#pendingBytes < 56 ? 64 : 128);
    last.set(this.#pending.subarray(0, this.#pendingBytes));
    last[this.#pendingBytes] = 0x80;
    const view = new DataView(last.buffer);
    view.setUint32(last.length - 8, Math.floor(this.#sizeBytes / 536870912));
    view.setUint32(last.length - 4, (this.#sizeBytes * 8) % 4294967296);
    compress(state, last, 0, last.length);
    let hex = '';
    for (const word of state) hex += (word >>> 0).toString(16).padStart(8, '0');
    return hex;
  }
}

export const createDigest = (): Digest => new Digest();

/**
 * JSON with one spelling: keys sorted by code unit, no spaces, numbers by shortest round-trip (-0 is 0), undefined
 * members skipped and undefined elements null, as JSON.stringify. Throws SimError on what JSON cannot say.
 */
export const canonicalJson = (value: unknown): string => canonicalAt(value, '$');

const canonicalAt = (value: unknown, path: string): string => {
  if (value === null || value === undefined) return 'null';
  if (typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return JSON.stringify(value);
    throw new SimError('invalid-input', `${path}: expected a finite number, got ${value}`);
  }
  if (Array.isArray(value))
    return `[${value.map((item, i) => canonicalAt(item, `${path}[${i}]`)).join(',')}]`;
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      const members = Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, member]) => `${JSON.stringify(key)}:${canonicalAt(member, `${path}.${key}`)}`);
      return `{${members.join(',')}}`;
    }
  }
  throw new SimError(
    'invalid-input',
    `${path}: expected plain JSON data, got ${Object.prototype.toString.call(value)}`,
  );
};

/** SHA-256 of the canonical JSON, 64 hex digits. Equal data gives equal digests, whatever the order of its keys. */
export const digestOfJson = (value: unknown): string => {
  const digest = createDigest();
  digest.addBytes(utf8(canonicalJson(value)));
  return digest.hex();
};
