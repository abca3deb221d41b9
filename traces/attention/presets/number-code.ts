/**
 * Numbers of a preset as text: two characters of 64 a number, one where precision does not matter. Moduli are coded by
 * logarithm, phases and ratios evenly.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { TraceError } from '../../error.ts';

/** A dot stands where the usual alphabet has a capital ex: three of those in a row read as a mark of unfinished work. */
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVW.YZabcdefghijklmnopqrstuvwxyz0123456789-_';
const turn = 2 * Math.PI;

/** Moduli from 2^-10 to 2^10 in 4,095 steps of 0.34 %; deviations from 2^-8 to 2^8 in 63 steps of 19 %. */
const fine = { least: -10, octaves: 20 } as const;
const coarse = { least: -8, octaves: 16 } as const;
const ln2 = log(2);

interface CodeRange {
  readonly least: number;
  readonly octaves: number;
}

export const toCode = (x: number, { least, octaves }: CodeRange, steps: number): number =>
  Math.min(steps, Math.max(0, Math.round(((log(Math.max(x, 1e-6)) / ln2 - least) / octaves) * steps)));

export const fromCode = (code: number, { least, octaves }: CodeRange, steps: number): number =>
  exp((least + (code / steps) * octaves) * ln2);

/** Most that a mean may be shifted, in standard deviations. */
const mostShift = 16;

/** Numbers into text. */
export class CodeWriter {
  text = '';

  digits(code: number): void {
    this.text += alphabet[code >> 6] + alphabet[code & 63];
  }

  moduli(values: Float64Array): void {
    for (const x of values) this.digits(toCode(x, fine, 4095));
  }

  phases(values: Float64Array): void {
    for (const x of values) this.digits(Math.round(((((x % turn) + turn) % turn) / turn) * 4096) & 4095);
  }

  deviations(values: Float64Array): void {
    for (const x of values) this.text += alphabet[toCode(x, coarse, 63)];
  }

  /** -1 .. 1, one character each. */
  loadings(values: Float64Array): void {
    for (const x of values) this.text += alphabet[Math.round((Math.min(1, Math.max(-1, x)) + 1) * 31)];
  }

  /** -mostShift .. mostShift by cubes: small ones finely. */
  shifts(values: Float64Array): void {
    for (const x of values) {
      const size = Math.min(1, Math.max(1e-9, Math.abs(x) / mostShift));
      const root = Math.sign(x) * exp(log(size) / 3);
      this.text += alphabet[Math.round((root + 1) * 31)];
    }
  }

  /** -1 .. 1 */
  ratio(x: number): void {
    this.digits(Math.round((Math.min(1, Math.max(-1, x)) + 1) * 2047));
  }
}

/** Numbers from text; throws TraceError `malformed` where there are none. */
export class CodeReader {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  digit(): number {
    const code = alphabet.indexOf(this.text.charAt(this.at++) || '?');
    if (code < 0) throw new TraceError('malformed', `preset: profile: no digit at character ${this.at - 1}`);
    return code;
  }

  digits(): number {
    const high = this.digit();
    return high * 64 + this.digit();
  }

  moduli(pairs: number): Float64Array {
    return Float64Array.from({ length: pairs }, () => fromCode(this.digits(), fine, 4095));
  }

  phases(pairs: number): Float64Array {
    return Float64Array.from({ length: pairs }, () => (this.digits() / 4096) * turn);
  }

  deviations(pairs: number): Float64Array {
    return Float64Array.from({ length: pairs }, () => fromCode(this.digit(), coarse, 63));
  }

  shifts(count: number): Float64Array {
    return Float64Array.from({ length: count }, () => {
      const root = this.digit() / 31 - 1;
      return root * root * root * mostShift;
    });
  }

  loadings(count: number): Float64Array {
    return Float64Array.from({ length: count }, () => this.digit() / 31 - 1);
  }

  ratio(): number {
    return this.digits() / 2047 - 1;
  }

  end(): void {
    if (this.at !== this.text.length)
      throw new TraceError(
        'malformed',
        `preset: profile: expected ${this.at} characters, found ${this.text.length}`,
      );
  }
}
