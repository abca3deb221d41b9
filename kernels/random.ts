/** Seeded random numbers for cases and fills: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), the same in C++ (fill). */
export interface Random {
  /** Uniform integer in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Uniform integer in [from, to]. */
  integer(from: number, to: number): number;
  /** One of these. */
  among<T>(choices: readonly T[]): T;
  /** Standard normal (Box-Muller). */
  normal(): number;
}

/** Bits 32 to 63 of the product of two 32-bit integers. */
const productHigh = (a: number, b: number): number => {
  const a1 = a >>> 16;
  const a0 = a & 0xffff;
  const b1 = b >>> 16;
  const b0 = b & 0xffff;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const carry = (middle & 0xffff) + a0 * b1;
  return (a1 * b1 + Math.floor(middle / 65_536) + Math.floor(carry / 65_536)) | 0;
};

/** A generator of SplitMix64's upper halves; 64-bit numbers as two 32-bit ones, ten times as fast as BigInt. */
const splitMix = (seed: number): (() => number) => {
  let high = Math.floor(seed / 2 ** 32) | 0;
  let low = seed | 0;
  return () => {
    const sum = (low >>> 0) + 0x7f4a7c15;
    high = (high + 0x9e3779b9 + (sum > 0xffffffff ? 1 : 0)) | 0;
    low = sum | 0;
    let h = high ^ (high >>> 30);
    let l = low ^ ((low >>> 30) | (high << 2));
    h = (Math.imul(h, 0x1ce4e5b9) + Math.imul(l, 0xbf58476d) + productHigh(l, 0x1ce4e5b9)) | 0;
    l = Math.imul(l, 0x1ce4e5b9);
    l ^= (l >>> 27) | (h << 5);
    h ^= h >>> 27;
    h = (Math.imul(h, 0x133111eb) + Math.imul(l, 0x94d049bb) + productHigh(l, 0x133111eb)) | 0;
    return (h ^ (h >>> 31)) >>> 0;
  };
};

export const createRandom = (seed: number): Random => {
  const uint32 = splitMix(seed);
  const uniform = (): number => uint32() / 2 ** 32;
  const integer: Random['integer'] = (from, to) => from + Math.floor(uniform() * (to - from + 1));
  return {
    uint32,
    uniform,
    integer,
    among: (choices) => choices[integer(0, choices.length - 1)],
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
};

const isOdd = (value: unknown): boolean => typeof value === 'number' && value % 2 === 1;

/** `random` with odd integers wherever there are some: sizes that all at once end within a word, a tile and a page. */
export const oddOnly = (random: Random): Random => ({
  ...random,
  integer(from, to) {
    const drawn = random.integer(from, to);
    if (isOdd(drawn) || from === to) return drawn;
    return drawn < to ? drawn + 1 : drawn - 1;
  },
  among(choices) {
    const odd = choices.filter(isOdd);
    return random.among(odd.length > 0 ? odd : choices);
  },
});
