/**
 * How concentrated one row of attention is: mass of its largest entries, entries for a share of the mass, entropy.
 * Without a sort: non-negative floats order like their bits, so one pass counts entries and mass by the upper 16 bits.
 * Entries of a bin differ by less than 1/128 and count as equal: exact for equal entries, and else off by less than
 * 1/128 of the mass of the one bin in which a bound falls (entropy: below 1e-5 bits).
 */
import { log2 } from '../../../sim/engine/math.ts';

/** Upper halves of the bit patterns of 0 .. 1; rounding may leave a probability just above 1, in the last bin too. */
const BINS = 0x3f80 + 1;

/** Tolerance of a bound that is whole but for rounding: 0.1 · 30 is 3.0000000000000004. */
const SLACK = 1e-6;
/** Probabilities are float32: a sum of them reaches a share when it misses it by no more. */
const ROUNDING = 1e-7;

export interface Concentration {
  /** Sum of the row, about 1. */
  total: number;
  entropyBits: number;
  /** Mass of the `sizes[i]` largest entries, as a share of the total. */
  readonly topMass: Float64Array;
  /** Fewest entries that hold at least `shares[i]` of the total. */
  readonly oracleTokens: Float64Array;
}

/** Entries in the top `fraction` of n: rounded up, at least 1. */
export const topSize = (fraction: number, n: number): number => Math.max(1, Math.ceil(fraction * n - SLACK));

const counts = new Uint32Array(BINS);
const masses = new Float64Array(BINS);

/** Sorts the row into bins; its sum. */
const fillBins = (row: Float32Array, n: number): number => {
  const words = new Uint32Array(row.buffer, row.byteOffset, n);
  const [count, mass] = [counts, masses];
  count.fill(0);
  mass.fill(0);
  let total = 0;
  for (let i = 0; i < n; i++) {
    const bin = words[i] >>> 16;
    const at = bin < BINS ? bin : BINS - 1;
    count[at]++;
    mass[at] += row[i];
  }
  for (let bin = 0; bin < BINS; bin++) total += mass[bin];
  return total;
};

/**
 * Measures row[0..n) (non-negative, n >= 1) into `out`, whose arrays have a place for each of `fractions` (of n) and
 * `shares` (of the mass), both ascending and at most 1.
 */
export const measureConcentration = (
  row: Float32Array,
  n: number,
  fractions: readonly number[],
  shares: readonly number[],
  out: Concentration,
): void => {
  const total = fillBins(row, n);
  out.total = total;
  const wanted = (at: number): number => shares[at] - ROUNDING;
  let entropy = 0;
  let size = 0;
  let share = 0;
  let above = 0;
  let aboveMass = 0;
  for (let bin = BINS - 1; bin >= 0 && above < n; bin--) {
    const count = counts[bin];
    if (count === 0) continue;
    const mass = masses[bin] / total;
    if (mass > 0) entropy += mass * log2(count / mass);
    for (; size < fractions.length && topSize(fractions[size], n) <= above + count; size++)
      out.topMass[size] = aboveMass + (mass * (topSize(fractions[size], n) - above)) / count;
    for (; share < shares.length && mass > 0 && wanted(share) <= aboveMass + mass; share++)
      out.oracleTokens[share] =
        above + Math.max(0, Math.ceil(((wanted(share) - aboveMass) / mass) * count - SLACK));
    above += count;
    aboveMass += mass;
  }
  // Entries of no mass at all are never needed, but a share of 1 must not stay open.
  for (; share < shares.length; share++) out.oracleTokens[share] = n;
  out.entropyBits = Math.max(0, entropy);
};

export const createConcentration = (fractions: number, shares: number): Concentration => ({
  total: 0,
  entropyBits: 0,
  topMass: new Float64Array(fractions),
  oracleTokens: new Float64Array(shares),
});
