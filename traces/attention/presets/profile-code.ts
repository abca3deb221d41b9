/** A head's profile as one line of text, so that a fitted preset is a table in a source file. */
import { CodeReader, CodeWriter, fromCode, toCode } from './number-code.ts';
import {
  type Attended,
  type Coherence,
  type HeadProfile,
  keyFactors,
  type Landmark,
  type MeasuredHead,
  type QueryProfile,
} from './preset.ts';

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
  const writer = new CodeWriter();
  writer.moduli(profile.keyMean);
  writer.phases(profile.keyPhase);
  writer.deviations(profile.keyDeviation);
  writer.loadings(profile.keyLoadings);
  writer.moduli(profile.sinkKey);
  writer.phases(profile.sinkPhase);
  writer.ratio(profile.marks / mostMarks);
  writer.ratio(profile.markShare / mostShare);
  writer.moduli(profile.earlyKey);
  writer.phases(profile.earlyPhase);
  writer.ratio(profile.earlySpread / mostSteadiness);
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
  for (const key of coherenceKeys) writer.ratio(profile.ownCoherence[key]);
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

/** Shares from 2^-16 to 1 by logarithm, two characters each, and nats in units of natsUnit. */
const shareRange = { least: -16, octaves: 16 } as const;
const natsUnit = 64;
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
  'textNats',
  'textKept',
  'textSpread',
] as const satisfies readonly (keyof Attended)[];
const attendedDigits = 2 * attendedKeys.length;

/** Most that a number of this name comes to. */
const unitOf = (key: keyof Attended): number =>
  key === 'textNats' ? natsUnit : key === 'textSpread' ? mostSteadiness : 1;

/** One line for all heads, in order. */
export function encodeAttended(all: readonly Attended[]): string {
  const writer = new CodeWriter();
  for (const attended of all)
    for (const key of attendedKeys) writer.digits(toCode(attended[key] / unitOf(key), shareRange, 4095));
  return writer.text;
}

/** Of the head with this number in the line. */
export function decodeAttended(text: string, head: number): Attended {
  const reader = new CodeReader(text.slice(attendedDigits * head, attendedDigits * (head + 1)));
  const next = (): number => fromCode(reader.digits(), shareRange, 4095);
  // In the order of attendedKeys.
  return {
    start: next(),
    text: next(),
    evidence: next(),
    question: next(),
    answer: next(),
    newest: next(),
    textTop01: next(),
    textTop1: next(),
    textTop10: next(),
    textLate: next(),
    textNats: natsUnit * next(),
    textKept: next(),
    textSpread: mostSteadiness * next(),
  };
}

/** Throws TraceError `malformed` when the line is not a profile of `pairs` rotary pairs and `group` query heads. */
export function decodeProfile(text: string, pairs: number, group: number): HeadProfile {
  const reader = new CodeReader(text);
  const keyMean = reader.moduli(pairs);
  const keyPhase = reader.phases(pairs);
  const keyDeviation = reader.deviations(2 * pairs);
  const keyLoadings = reader.loadings(2 * pairs * keyFactors(2 * pairs));
  const sinkKey = reader.moduli(pairs);
  const sinkPhase = reader.phases(pairs);
  const marks = Math.round(reader.ratio() * mostMarks);
  const markShare = reader.ratio() * mostShare;
  const earlyKey = reader.moduli(pairs);
  const earlyPhase = reader.phases(pairs);
  const earlySpread = reader.ratio() * mostSteadiness;
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
  const ownCoherence = coherence();
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
    keyPhase,
    keyDeviation,
    keyLoadings,
    keySets: new Int32Array(pairs),
    sinkKey,
    sinkPhase,
    marks,
    markShare,
    earlyKey,
    earlyPhase,
    earlySpread,
    queries,
    keyCoherence,
    ownCoherence,
    queryCoherence,
    agreement,
    salientRatio: salientRoot * salientRoot,
    salientNats,
    question,
    answer,
    measured,
  };
}
