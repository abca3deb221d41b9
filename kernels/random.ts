/** Seeded random numbers for cases and fills: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), the same in C++ (fill). */
export interface Random {
  /** Uniform integer in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Uniform integer in [from, to]. */
  integer(from: number, to: number): number;
  /** Standard normal (Box-Muller). */
  normal(): number;
}

const MASK = (1n << 64n) - 1n;

const mix = (state: bigint): bigint => {
  let z = state;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
};

export const createRandom = (seed: number): Random => {
  let state = BigInt(seed) & MASK;
  const uint32 = (): number => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    return Number(mix(state) >> 32n);
  };
  const uniform = (): number => uint32() / 2 ** 32;
  return {
    uint32,
    uniform,
    integer: (from, to) => from + Math.floor(uniform() * (to - from + 1)),
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
};
