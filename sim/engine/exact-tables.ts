/**
 * Correctly rounded constants and tables for math.ts, computed once at load in BigInt fixed point (192 fraction
 * bits), so that every engine holds the same bits. Series are the textbook ones: exp by Taylor, log by atanh,
 * pi by Machin's formula.
 */
const FRACTION_BITS = 192n;
const ONE = 1n << FRACTION_BITS;

/** powersOfTwo[k + 1074] = 2^k for -1074 <= k <= 1023, by doubling, which is exact. */
export const powersOfTwo: Float64Array = new Float64Array(2098);
powersOfTwo[0] = Number.MIN_VALUE;
for (let i = 1; i < powersOfTwo.length; i++) powersOfTwo[i] = 2 * powersOfTwo[i - 1];

/** A fixed-point value as the nearest double; the scaling by powers of two is exact. */
const toDouble = (fixed: bigint): number => Number(fixed) * powersOfTwo[1074 - Number(FRACTION_BITS)];

/** atanh(numerator / denominator) in fixed point, for small ratios. */
const atanhRatio = (numerator: bigint, denominator: bigint, sign: 1n | -1n, one: bigint): bigint => {
  const squaredNumerator = numerator * numerator * sign;
  const squaredDenominator = denominator * denominator;
  let power = (one * numerator) / denominator;
  let sum = 0n;
  for (let odd = 1n; power !== 0n; odd += 2n) {
    sum += power / odd;
    power = (power * squaredNumerator) / squaredDenominator;
  }
  return sum;
};

const LN2_FIXED = 2n * atanhRatio(1n, 3n, 1n, ONE);

const expFixed = (x: bigint): bigint => {
  let term = ONE;
  let sum = ONE;
  for (let n = 1n; term !== 0n; n += 1n) {
    term = ((term * x) >> FRACTION_BITS) / n;
    sum += term;
  }
  return sum;
};

/** pi in fixed point with `bits` fraction bits, a few last bits uncertain. */
export const piFixed = (bits: number): bigint => {
  const one = 1n << BigInt(bits);
  return 4n * (4n * atanhRatio(1n, 5n, -1n, one) - atanhRatio(1n, 239n, -1n, one));
};

/** Splits a fixed-point number into `count` doubles of `bits` bits each; the last takes the nearest remainder. */
const splitFixed = (fixed: bigint, bits: number, count: number): number[] => {
  const parts: number[] = [];
  let rest = fixed;
  for (let i = 0; i < count - 1; i++) {
    const drop = BigInt(rest.toString(2).length - bits);
    const part = (rest >> drop) << drop;
    parts.push(toDouble(part));
    rest -= part;
  }
  parts.push(toDouble(rest));
  return parts;
};

export const EXP_STEPS = 128;

/** exp2Table[j] = 2^(j/128). */
export const exp2Table: Float64Array = Float64Array.from({ length: EXP_STEPS }, (_, j) =>
  toDouble(expFixed((LN2_FIXED * BigInt(j)) / BigInt(EXP_STEPS))),
);

/** ln 2 in two parts; the first has 32 bits, so that its product with any exponent is exact. */
export const [ln2Hi, ln2Lo] = splitFixed(LN2_FIXED, 32, 2) as [number, number];

/** Parts of (ln 2) / 128; the first has 32 bits. */
export const [ln2StepHi, ln2StepLo] = [ln2Hi / EXP_STEPS, ln2Lo / EXP_STEPS];

export const inverseLn2: number = toDouble((ONE << FRACTION_BITS) / LN2_FIXED);

/** pi/2 in three parts of 33 bits, 33 bits and the rest: products with integers up to 2^20 are exact. */
export const halfPiParts: readonly number[] = splitFixed(piFixed(Number(FRACTION_BITS) + 16) >> 17n, 33, 3);

/** Centres of the logarithm's table: c = (90 + i) / 128, so that 0.703 <= c <= 1.422 and 1 is one of them. */
export const LOG_FIRST_CENTRE = 90;
const LOG_CENTRES = 93;

const logFixed = (i: number): bigint =>
  2n * atanhRatio(BigInt(LOG_FIRST_CENTRE + i - 128), BigInt(LOG_FIRST_CENTRE + i + 128), 1n, ONE);

/** log of each centre: a first part of at most 40 fraction bits (sums with k·ln2Hi are exact), then the rest. */
export const logCentreHi = new Float64Array(LOG_CENTRES);
export const logCentreLo = new Float64Array(LOG_CENTRES);
export const inverseCentre = new Float64Array(LOG_CENTRES);
for (let i = 0; i < LOG_CENTRES; i++) {
  const fixed = logFixed(i);
  const drop = FRACTION_BITS - 40n;
  const head = (fixed >> drop) << drop;
  logCentreHi[i] = toDouble(head);
  logCentreLo[i] = toDouble(fixed - head);
  inverseCentre[i] = 128 / (LOG_FIRST_CENTRE + i);
}
