/**
 * A head's profile as one line of text, so that a fitted preset is a table in a source file: two characters of 64 a
 * number, one where precision does not matter. Moduli are coded by logarithm, phases and ratios evenly.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { TraceError } from '../../error.ts';
import type { Attended, Coherence, HeadProfile, Landmark, MeasuredHead, QueryProfile } from './preset.ts';

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

const toCode = (x: number, { least, octaves }: CodeRange, steps: number): number =>
  Math.min(steps, Math.max(0, Math.round(((log(Math.max(x, 1e-6)) / ln2 - least) / octaves) * steps)));

const fromCode = (code: number, { least, octaves }: CodeRange, steps: number): number =>
  exp((least + (code / steps) * octaves) * ln2);

/** Most that a mean may be shifted, in standard deviations. */
const mostShift = 16;

class Writer {
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

class Reader {
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

const coherenceKeys = ['identity', 'word', 'sentence', 'passage'] as const;
const targetKeys = ['massTop1', 'massTop10', 'sinkRatio', 'localRatio'] as const;
/** A mark may lie a little beyond the sink. */
const mostShare = 2;
/** Marks are counted up to this. */
const mostMarks = 63;
/** Most that steadiness and spread may be. */
const mostSteadiness = 8;
/** Salient tokens, a question's and an answer's lie at most this many nats above others. */
const mostNats = 64;

export function encodeProfile(profile: HeadProfile): string {
  const writer = new Writer();
  writer.moduli(profile.keyMean);
  writer.deviations(profile.keyDeviation);
  writer.ratio(profile.keySpread / mostSteadiness);
  writer.ratio(profile.keySteadiness / mostSteadiness);
  writer.moduli(profile.sinkKey);
  writer.phases(profile.sinkPhase);
  writer.ratio(profile.marks / mostMarks);
  writer.ratio(profile.markShare / mostShare);
  writer.ratio(profile.early);
  for (const query of profile.queries) {
    writer.moduli(query.mean);
    writer.phases(query.phase);
    writer.deviations(query.deviation);
    writer.shifts(query.promptShift);
    writer.ratio(query.self);
    writer.ratio(query.farSteadiness / mostSteadiness);
    writer.ratio(query.nearSteadiness / mostSteadiness);
  }
  for (const key of coherenceKeys) writer.ratio(profile.keyCoherence[key]);
  for (const key of coherenceKeys) writer.ratio(profile.queryCoherence[key]);
  writer.ratio(profile.agreement);
  // A rate of a few in a thousand needs more than a linear code gives.
  writer.ratio(Math.sqrt(profile.salientRatio));
  writer.ratio(profile.salientNats / mostNats);
  for (const { shift, spreadNats } of [profile.question, profile.answer]) {
    writer.shifts(shift);
    writer.ratio(spreadNats / mostNats);
  }
  for (const key of targetKeys) writer.ratio(profile.measured[key]);
  return writer.text;
}

/** Shares from 2^-16 to 1 by logarithm, two characters each. */
const shareRange = { least: -16, octaves: 16 } as const;
const attendedKeys = [
  'start',
  'text',
  'evidence',
  'question',
  'answer',
  'newest',
  'textTop01',
  'textTop1',
  'textTop10',
  'textLate',
] as const satisfies readonly (keyof Attended)[];
const attendedDigits = 2 * attendedKeys.length;

/** One line for all heads, in order. */
export function encodeAttended(all: readonly Attended[]): string {
  const writer = new Writer();
  for (const attended of all)
    for (const key of attendedKeys) writer.digits(toCode(attended[key], shareRange, 4095));
  return writer.text;
}

/** Of the head with this number in the line. */
export function decodeAttended(text: string, head: number): Attended {
  const reader = new Reader(text.slice(attendedDigits * head, attendedDigits * (head + 1)));
  const [start, middle, evidence, question, answer, newest, textTop01, textTop1, textTop10, textLate] =
    attendedKeys.map(() => fromCode(reader.digits(), shareRange, 4095));
  const regions = { start, text: middle, evidence, question, answer };
  return { ...regions, newest, textTop01, textTop1, textTop10, textLate };
}

/** Throws TraceError `malformed` when the line is not a profile of `pairs` rotary pairs and `group` query heads. */
export function decodeProfile(text: string, pairs: number, group: number): HeadProfile {
  const reader = new Reader(text);
  const keyMean = reader.moduli(pairs);
  const keyDeviation = reader.deviations(2 * pairs);
  const keySpread = reader.ratio() * mostSteadiness;
  const keySteadiness = reader.ratio() * mostSteadiness;
  const sinkKey = reader.moduli(pairs);
  const sinkPhase = reader.phases(pairs);
  const marks = Math.round(reader.ratio() * mostMarks);
  const markShare = reader.ratio() * mostShare;
  const early = reader.ratio();
  const queries: QueryProfile[] = [];
  for (let g = 0; g < group; g++) {
    const mean = reader.moduli(pairs);
    const phase = reader.phases(pairs);
    const deviation = reader.deviations(2 * pairs);
    const promptShift = reader.shifts(2 * pairs);
    const self = reader.ratio();
    const farSteadiness = reader.ratio() * mostSteadiness;
    const nearSteadiness = reader.ratio() * mostSteadiness;
    queries.push({ mean, phase, deviation, promptShift, self, farSteadiness, nearSteadiness });
  }
  const coherence = (): Coherence => {
    const [identity, word, sentence, passage] = coherenceKeys.map(() => reader.ratio());
    return { identity, word, sentence, passage };
  };
  const keyCoherence = coherence();
  const queryCoherence = coherence();
  const agreement = reader.ratio();
  const salientRoot = reader.ratio();
  const salientNats = reader.ratio() * mostNats;
  const landmark = (): Landmark => ({
    shift: reader.shifts(pairs * 2),
    spreadNats: reader.ratio() * mostNats,
  });
  const question = landmark();
  const answer = landmark();
  const [massTop1, massTop10, sinkRatio, localRatio] = targetKeys.map(() => reader.ratio());
  const measured: MeasuredHead = { massTop1, massTop10, sinkRatio, localRatio };
  reader.end();
  return {
    keyMean,
    keyDeviation,
    keySpread,
    keySteadiness,
    sinkKey,
    sinkPhase,
    marks,
    markShare,
    early,
    queries,
    keyCoherence,
    queryCoherence,
    agreement,
    salientRatio: salientRoot * salientRoot,
    salientNats,
    question,
    answer,
    measured,
  };
}
