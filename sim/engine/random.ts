/**
 * Named seeded random streams: the same (seed, name) gives the same numbers in every engine, and streams of
 * different names are independent, so that a new consumer never shifts the numbers of an old one.
 * Generator: xoshiro128** 1.1 (Blackman & Vigna, doi:10.1145/3460772), period 2^128 - 1. Normals and exponentials:
 * ziggurats of 256 layers (Marsaglia & Tsang, doi:10.18637/jss.v005.i08), separate bits for layer and value.
 */
import { SimError } from '../error.ts';
import { exp, log } from './math.ts';

/** Words drawn at a time; single draws then cost one load. */
const BATCH = 512;
const LAYERS = 256;
/** Start of the tail of a 256-layer ziggurat, and the area of each layer (Marsaglia & Tsang 2000, §3). */
const TAIL_START = 3.6541528853610088;
const LAYER_AREA = 0.004928673233974655;

/** Right edge of each layer, widest first; edges[256] = 0. */
const edges = new Float64Array(LAYERS + 1);
/** exp(-edge^2 / 2). */
const heights = new Float64Array(LAYERS + 1);
edges[0] = LAYER_AREA / exp(-0.5 * TAIL_START * TAIL_START);
edges[1] = TAIL_START;
for (let i = 2; i < LAYERS; i++) {
  const below = edges[i - 1];
  edges[i] = Math.sqrt(-2 * log(LAYER_AREA / below + exp(-0.5 * below * below)));
}
for (let i = 0; i <= LAYERS; i++) heights[i] = exp(-0.5 * edges[i] * edges[i]);
/** Layer edge per unit of a 24-bit signed integer, and the integers that need no further test. */
const scales = new Float64Array(LAYERS);
const accepted = new Int32Array(LAYERS);
for (let i = 0; i < LAYERS; i++) {
  scales[i] = edges[i] / 8388608;
  accepted[i] = Math.floor((edges[i + 1] / edges[i]) * 8388608);
}

/**
 * The same for e^-x. Its tail begins at 7.697117470131050 (Marsaglia & Tsang 2000, §3), and a layer's area is exactly
 * (start + 1)·e^-start, because the tail's is e^-start.
 */
const EXP_TAIL_START = 7.69711747013105;
const EXP_LAYER_AREA = (EXP_TAIL_START + 1) * exp(-EXP_TAIL_START);
const expEdges = new Float64Array(LAYERS + 1);
const expHeights = new Float64Array(LAYERS + 1);
expEdges[0] = EXP_LAYER_AREA / exp(-EXP_TAIL_START);
expEdges[1] = EXP_TAIL_START;
for (let i = 2; i < LAYERS; i++) {
  expEdges[i] = -log(EXP_LAYER_AREA / expEdges[i - 1] + exp(-expEdges[i - 1]));
}
for (let i = 0; i <= LAYERS; i++) expHeights[i] = exp(-expEdges[i]);

/** Spreads a 32-bit integer over all 32 bits (the finaliser of MurmurHash3). */
const mix32 = (x: number): number => {
  let h = x;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
};

/** Four words of state from seed and name; never all zero. */
const seedState = (seed: number, name: string): Int32Array => {
  const bits = new Int32Array(new Float64Array([seed + 0]).buffer);
  const state = Int32Array.of(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344);
  const absorb = (word: number): void => {
    for (let lane = 0; lane < 4; lane++) {
      const previous = state[(lane + 3) & 3];
      state[lane] = mix32((state[lane] ^ word) + Math.imul(previous, 0x9e3779b1) + lane);
    }
  };
  absorb(bits[0]);
  absorb(bits[1]);
  for (let i = 0; i < name.length; i++) absorb(name.charCodeAt(i));
  absorb(name.length);
  absorb(0x7f4a7c15);
  if ((state[0] | state[1] | state[2] | state[3]) === 0) state[0] = 1;
  return state;
};

/** A class because state and buffered words live together and every consumer holds one. */
export class Random {
  readonly #state: Int32Array;
  readonly #words = new Int32Array(BATCH);
  #next = BATCH;

  constructor(seed: number, name: string) {
    if (!Number.isFinite(seed))
      throw new SimError('invalid-input', `seed: expected a finite number, got ${seed}`);
    this.#state = seedState(seed, name);
  }

  #refill(): void {
    const state = this.#state;
    const words = this.#words;
    let s0 = state[0];
    let s1 = state[1];
    let s2 = state[2];
    let s3 = state[3];
    for (let i = 0; i < BATCH; i++) {
      const x = Math.imul(s1, 5);
      words[i] = Math.imul((x << 7) | (x >>> 25), 9);
      const t = s1 << 9;
      s2 ^= s0;
      s3 ^= s1;
      s1 ^= s2;
      s0 ^= s3;
      s2 ^= t;
      s3 = (s3 << 11) | (s3 >>> 21);
    }
    state[0] = s0;
    state[1] = s1;
    state[2] = s2;
    state[3] = s3;
    this.#next = 0;
  }

  #word(): number {
    if (this.#next === BATCH) this.#refill();
    return this.#words[this.#next++];
  }

  /** An integer of 0 .. 2^32 - 1. */
  nextUint32(): number {
    return this.#word() >>> 0;
  }

  /** A multiple of 2^-53 in [0, 1). */
  uniform(): number {
    if (this.#next >= BATCH - 1) this.#refill();
    const at = this.#next;
    this.#next = at + 2;
    return ((this.#words[at] >>> 5) * 67108864 + (this.#words[at + 1] >>> 6)) * 1.1102230246251565e-16;
  }

  /** Exponentially distributed with the given mean (any unit), >= 0, of 53 random bits. */
  exponential(mean: number): number {
    for (;;) {
      if (this.#next >= BATCH - 1) this.#refill();
      const at = this.#next;
      this.#next = at + 2;
      const bits = this.#words[at];
      const layer = bits & 255;
      const u = ((bits >>> 8) * 536870912 + (this.#words[at + 1] >>> 3)) * 1.1102230246251565e-16;
      const x = u * expEdges[layer];
      if (x < expEdges[layer + 1]) return x * mean;
      // Beyond the start of the tail the distribution is the same again.
      if (layer === 0) return (EXP_TAIL_START - log(1 - this.uniform())) * mean;
      const height = expHeights[layer] + this.uniform() * (expHeights[layer + 1] - expHeights[layer]);
      if (height < exp(-x)) return x * mean;
    }
  }

  /** An integer of 0 .. n - 1, exactly uniform (Lemire, arXiv:1805.10941). `n` is an integer of 1 .. 2^32. */
  integer(n: number): number {
    if (!(n >= 1 && n <= 4294967296) || !Number.isInteger(n)) {
      throw new SimError('invalid-input', `integer(n): expected an integer of 1 .. 2^32, got ${n}`);
    }
    const reject = 4294967296 % n;
    for (;;) {
      const x = this.#word() >>> 0;
      // Both halves of the 64-bit product x·n, by 16-bit parts.
      const low = (x & 0xffff) * n;
      const high = (x >>> 16) * n + Math.floor(low / 65536);
      const fraction = (high % 65536) * 65536 + (low % 65536);
      if (fraction >= reject) return Math.floor(high / 65536);
    }
  }

  /** Standard normal. */
  normal(): number {
    return this.#normalFrom(this.#word());
  }

  #normalFrom(word: number): number {
    let bits = word;
    for (;;) {
      const layer = bits & 255;
      const value = bits >> 8;
      const x = value * scales[layer];
      const size = value < 0 ? -value : value;
      if (size < accepted[layer]) return x;
      if (layer === 0) return this.#tail(value < 0);
      const height = heights[layer] + this.uniform() * (heights[layer + 1] - heights[layer]);
      if (height < exp(-0.5 * x * x)) return x;
      bits = this.#word();
    }
  }

  /** A value beyond the last layer (Marsaglia 1964). */
  #tail(negative: boolean): number {
    for (;;) {
      const x = this.exponential(1 / TAIL_START);
      const y = this.exponential(1);
      if (2 * y > x * x) return negative ? -(TAIL_START + x) : TAIL_START + x;
    }
  }

  /** Fills dst with standard normals: the same numbers as repeated normal(), rounded to float32. */
  fillNormal(dst: Float32Array): void {
    const words = this.#words;
    const layerScales = scales;
    const sure = accepted;
    const count = dst.length;
    let next = this.#next;
    for (let i = 0; i < count; i++) {
      if (next === BATCH) {
        this.#refill();
        next = 0;
      }
      const bits = words[next++];
      const layer = bits & 255;
      const value = bits >> 8;
      // The size of value without a branch, which a random sign would mispredict half the time.
      const sign = value >> 31;
      if ((value ^ sign) - sign < sure[layer]) {
        dst[i] = value * layerScales[layer];
        continue;
      }
      this.#next = next;
      dst[i] = this.#normalFrom(bits);
      next = this.#next;
    }
    this.#next = next;
  }

  /** Puts the items into a uniformly random order, in place (Fisher-Yates). */
  shuffle(items: Int32Array): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
  }
}

/** A stream of its own for each (seed, name). `seed` is any finite number. */
export const createRandom = (seed: number, name: string): Random => new Random(seed, name);
