/**
 * Elementary functions whose bits are the same in every engine: only + - * / and sqrt of IEEE doubles, table loads
 * and bit views. Relative error is below 4e-16 for exp and log, 1e-15 for the others (tested against Math).
 * Table-driven reduction after Tang, "Table-driven implementation of the exponential function", ACM TOMS 15 (1989).
 */
import {
  EXP_STEPS,
  exp2Table,
  halfPiParts,
  inverseCentre,
  inverseLn2,
  LOG_FIRST_CENTRE,
  ln2Hi,
  ln2Lo,
  ln2StepHi,
  ln2StepLo,
  logCentreHi,
  logCentreLo,
  piFixed,
  powersOfTwo,
} from './exact-tables.ts';

/** Adding and taking away 1.5 * 2^52 rounds a double below 2^51 to the nearest integer. */
const ROUND = 6755399441055744;
const STEPS_PER_UNIT = EXP_STEPS * inverseLn2;
const float64View = new Float64Array(1);
const int32View = new Int32Array(float64View.buffer);
// The word that holds sign and exponent, whatever the byte order.
float64View[0] = 1;
const HIGH = int32View[1] === 0x3ff00000 ? 1 : 0;

/** exp(r) - 1 for |r| <= ln 2 / 256, a Taylor polynomial with a remainder below 2^-60. */
const smallExpm1 = (r: number): number =>
  r + r * r * (0.5 + r * (0.16666666666666666 + r * (0.041666666666666664 + r * 0.008333333333333333)));

/** e^x. Overflows to Infinity above 709.78 and to 0 below -745.13; NaN stays NaN. */
export const exp = (x: number): number => {
  if (!(x < 709.782712893384 && x > -745.1332191019412)) {
    if (x === 709.782712893384) return expWithTail(x, 0);
    return x > 0 ? Number.POSITIVE_INFINITY : Math.max(x, 0);
  }
  return expWithTail(x, 0);
};

/** exp(x + tail) for x in range and |tail| below 1e-10. */
const expWithTail = (x: number, tail: number): number => {
  const steps = x * STEPS_PER_UNIT + ROUND - ROUND;
  const k = steps | 0;
  const r = x - steps * ln2StepHi - steps * ln2StepLo + tail;
  const t = exp2Table[k & (EXP_STEPS - 1)];
  const y = t + t * smallExpm1(r);
  const e = k >> 7;
  if (e >= -1022 && e < 1024) return y * powersOfTwo[e + 1074];
  // At both ends the scaling takes two products, of which only the last one rounds.
  return e > 0 ? y * 2 * powersOfTwo[1023 + 1074] : y * powersOfTwo[e + 54 + 1074] * powersOfTwo[1074 - 54];
};

/** log(1 + r) - r for |r| <= 0.0056. */
const smallLogTail = (r: number): number =>
  r *
  r *
  (-0.5 +
    r *
      (0.3333333333333333 +
        r * (-0.25 + r * (0.2 + r * (-0.16666666666666666 + r * (0.14285714285714285 - r * 0.125))))));

/** The exponent e for which x / 2^e lies in [0.7071, 1.4143), for positive finite x. */
const exponentOf = (x: number): number => {
  float64View[0] = x;
  const high = int32View[HIGH];
  if (high >= 0x00100000) return (high - 0x3fe6a09e) >> 20;
  float64View[0] = x * 18014398509481984;
  return ((int32View[HIGH] - 0x3fe6a09e) >> 20) - 54;
};

/** x / 2^e, exactly. A product, not a second bit view: a load that overlaps two stores stalls for 12 cycles. */
const mantissaOf = (x: number, e: number): number =>
  e >= -1022 ? x * powersOfTwo[1074 - e] : x * powersOfTwo[1074 + 1000] * powersOfTwo[74 - e];

/** Natural logarithm. log(0) = -Infinity; below 0 and NaN: NaN. */
export const log = (x: number): number => {
  if (!(x > 0 && x < Number.POSITIVE_INFINITY))
    return x === 0 ? Number.NEGATIVE_INFINITY : x > 0 ? x : Number.NaN;
  const e = exponentOf(x);
  const z = mantissaOf(x, e);
  const i = ((z * 128 + 0.5) | 0) - LOG_FIRST_CENTRE;
  const r = (z - (LOG_FIRST_CENTRE + i) * 0.0078125) * inverseCentre[i];
  const whole = e * ln2Hi + logCentreHi[i];
  return whole + (r + (smallLogTail(r) + (e * ln2Lo + logCentreLo[i])));
};

/** Base-2 logarithm; exact at powers of two. */
export const log2 = (x: number): number => {
  if (!(x > 0 && x < Number.POSITIVE_INFINITY)) return log(x);
  const e = exponentOf(x);
  return e + log(mantissaOf(x, e)) * inverseLn2;
};

/** The first 26 bits of x (Dekker's split), for |x| below 2^996. */
const head26 = (x: number): number => {
  const c = 134217729 * x;
  return c - (c - x);
};

/** x^y for x > 0 finite: the logarithm keeps about 70 bits, so large exponents lose nothing. */
const powPositive = (x: number, y: number): number => {
  const e = exponentOf(x);
  const z = mantissaOf(x, e);
  const i = ((z * 128 + 0.5) | 0) - LOG_FIRST_CENTRE;
  const c = (LOG_FIRST_CENTRE + i) * 0.0078125;
  const d = z - c;
  const r = d * inverseCentre[i];
  const rHead = head26(r);
  const rError = (d - rHead * c - (r - rHead) * c) * inverseCentre[i];
  const whole = e * ln2Hi + logCentreHi[i];
  const first = whole + r;
  const firstError = whole === 0 ? 0 : r - (first - whole);
  const rest = firstError + rError + smallLogTail(r) + (e * ln2Lo + logCentreLo[i]);
  const hi = first + rest;
  const lo = rest - (hi - first);
  const product = hi * y;
  if (!(product < 709.8)) return product > 0 ? Number.POSITIVE_INFINITY : product;
  if (product < -746) return 0;
  const hiHead = head26(hi);
  const yHead = head26(y);
  const hiTail = hi - hiHead;
  const yTail = y - yHead;
  const productError = hiHead * yHead - product + hiHead * yTail + hiTail * yHead + hiTail * yTail + lo * y;
  return product > 709.78
    ? expWithTail(product - 1, productError) * exp(1)
    : expWithTail(product, productError);
};

/** x^y as IEEE pow defines it (and ECMAScript: pow(±1, ±Infinity) is NaN). */
export const pow = (x: number, y: number): number => {
  if (y === 0) return 1;
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.NaN;
  const size = x < 0 ? -x : x;
  if (y === Number.POSITIVE_INFINITY || y === Number.NEGATIVE_INFINITY) {
    if (size === 1) return Number.NaN;
    return size > 1 === y > 0 ? Number.POSITIVE_INFINITY : 0;
  }
  const isInteger = Number.isInteger(y);
  const isOdd = isInteger && y % 2 !== 0;
  const isNegative = x < 0 || Object.is(x, -0);
  const sign = isNegative && isOdd ? -1 : 1;
  if (size === 0 || size === Number.POSITIVE_INFINITY) {
    return (size === 0) === y > 0 ? sign * 0 : sign * Number.POSITIVE_INFINITY;
  }
  if (x < 0 && !isInteger) return Number.NaN;
  // Past 2^63 every base but 1 over- or underflows, so a larger exponent changes nothing.
  return sign * powPositive(size, Math.min(Math.max(y, -2e19), 2e19));
};

/** sin(r) and cos(r) for |r| <= pi/4 + tiny, with a correction for the part of r below its last bit. */
const sinKernel = (r: number, tail: number): number => {
  const s = r * r;
  const p =
    -0.16666666666666666 +
    s *
      (0.008333333333333333 +
        s *
          (-0.0001984126984126984 +
            s *
              (2.7557319223985893e-6 +
                s * (-2.505210838544172e-8 + s * (1.6059043836821613e-10 - s * 7.647163731819816e-13)))));
  return r + (r * s * p + tail * (1 - 0.5 * s));
};
const cosKernel = (r: number, tail: number): number => {
  const s = r * r;
  const p =
    0.041666666666666664 +
    s *
      (-0.001388888888888889 +
        s *
          (2.48015873015873e-5 +
            s *
              (-2.755731922398589e-7 +
                s * (2.08767569878681e-9 + s * (-1.1470745597729725e-11 + s * 4.779477332387385e-14)))));
  const half = 0.5 * s;
  const whole = 1 - half;
  return whole + (1 - whole - half + (s * s * p - r * tail));
};

let reducedHi = 0;
let reducedLo = 0;
let piBits = 0n;

/** Reduces x by multiples of pi/2 into reducedHi + reducedLo; the quadrant, 0..3. */
const reduceHalfPi = (x: number): number => {
  const size = x < 0 ? -x : x;
  if (!(size < 1e6)) return reduceLarge(x);
  const n = x * 0.6366197723675814 + ROUND - ROUND;
  const a = x - n * halfPiParts[0];
  const w = n * halfPiParts[1];
  const b = a - w;
  const bError = a - b - w;
  const v = n * halfPiParts[2] - bError;
  reducedHi = b - v;
  reducedLo = b - reducedHi - v;
  return n & 3;
};

/** The same for |x| >= 1e6, exactly, in integers: slow and rare. */
const reduceLarge = (x: number): number => {
  const bits = 1280n;
  if (piBits === 0n) piBits = piFixed(1312) >> 33n;
  let shift = 0n;
  let whole = x;
  while (!Number.isInteger(whole)) {
    whole *= 2;
    shift += 1n;
  }
  const fixed = (BigInt(whole) << bits) >> shift;
  const halfPi = piBits;
  let quotient = fixed / halfPi;
  let rest = fixed - quotient * halfPi;
  if (2n * rest > halfPi) {
    rest -= halfPi;
    quotient += 1n;
  } else if (-2n * rest > halfPi) {
    rest += halfPi;
    quotient -= 1n;
  }
  const scaled = rest >> (bits - 256n);
  reducedHi = Number(scaled) * powersOfTwo[1074 - 256];
  reducedLo = 0;
  return Number(((quotient % 4n) + 4n) % 4n);
};

const isFinite64 = (x: number): boolean => x - x === 0;

/** Sine of x radians, accurate for every finite x. */
export const sin = (x: number): number => {
  if (!isFinite64(x)) return Number.NaN;
  if (x < 0.785 && x > -0.785) return x === 0 ? x : sinKernel(x, 0);
  const quadrant = reduceHalfPi(x);
  const y = (quadrant & 1) === 0 ? sinKernel(reducedHi, reducedLo) : cosKernel(reducedHi, reducedLo);
  return quadrant < 2 ? y : -y;
};

/** Cosine of x radians, accurate for every finite x. */
export const cos = (x: number): number => {
  if (!isFinite64(x)) return Number.NaN;
  if (x < 0.785 && x > -0.785) return cosKernel(x, 0);
  const quadrant = reduceHalfPi(x);
  const y = (quadrant & 1) === 0 ? cosKernel(reducedHi, reducedLo) : sinKernel(reducedHi, reducedLo);
  return quadrant === 0 || quadrant === 3 ? y : -y;
};
