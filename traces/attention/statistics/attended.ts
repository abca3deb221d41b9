/** Where an answer's attention goes in a trace: what a head of the generator is balanced to. */

import { log } from '../../../sim/engine/math.ts';
import { attendExactly, createExactAttention } from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import type { Attended, Regions } from '../presets/preset.ts';
import { answerTokens, keptRatio, keptSteps, lateRatio, type RegionBounds } from '../synthetic/regions.ts';
import { topShare } from './measured.ts';

/** Every second token of a whole answer, and how many of these `keptSteps` are. */
const sampledSteps = answerTokens >> 1;
const keptSamples = keptSteps >> 1;

/** Over the first tokens of the answer, as a generated head is balanced; `textSpread` is known from the keys. */
export function measureAttended(
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  bounds: RegionBounds,
  textSpread = 1,
): Attended {
  const { heads, kvHeads, headDim, promptTokens } = trace.shape;
  const steps = Math.min(answerTokens, trace.shape.steps);
  const group = heads / kvHeads;
  const exact = createExactAttention(group, promptTokens + steps, 0);
  const keys = trace.keys(layer, kvHead);
  const count = Math.min(sampledSteps, steps);
  const rows: Attended[] = [];
  const before: Float32Array[][] = [];
  let [kept, pairs] = [0, 0];
  for (let i = 0; i < count; i++) {
    const step = Math.floor(((i + 0.5) * steps) / count);
    const length = promptTokens + step + 1;
    attendExactly(exact, trace.queries(layer, step, kvHead), keys, null, headDim, length);
    for (let g = 0; g < group; g++) {
      const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + length);
      const text = textOf(row, bounds);
      before[g] ??= [];
      before[g].push(text);
      if (before[g].length > keptSamples) {
        kept += keptShare(before[g][0], text);
        pairs++;
        before[g].shift();
      }
      rows.push(attendedIn(row, text, promptTokens, bounds));
    }
  }
  return { ...meanAttended(rows), textKept: kept / Math.max(1, pairs), textSpread };
}

/** The text's masses without the evidence. */
function textOf(
  row: Float32Array,
  { textFrom, textTo, evidenceFrom, evidenceTo }: RegionBounds,
): Float32Array {
  const text = new Float32Array(textTo - textFrom - (evidenceTo - evidenceFrom));
  text.set(row.subarray(textFrom, evidenceFrom));
  text.set(row.subarray(evidenceTo, textTo), evidenceFrom - textFrom);
  return text;
}

/** Share of the masses that the tokens have which were the heaviest before. */
function keptShare(before: Float32Array, now: Float32Array): number {
  const least = before.slice().sort()[before.length - Math.max(1, Math.floor(keptRatio * before.length))];
  let [kept, all] = [0, 0];
  for (let i = 0; i < now.length; i++) {
    all += now[i];
    if (before[i] >= least) kept += now[i];
  }
  return kept / Math.max(1e-12, all);
}

const sumOf = (row: Float32Array): number => row.reduce((sum, x) => sum + x, 0);

/** Least probability told from none. */
const leastMass = 1e-36;

/** Standard deviation of the logits behind masses, nats. */
function deviationOf(masses: Float32Array): number {
  let [sum, squares] = [0, 0];
  for (const mass of masses) {
    const nats = log(Math.max(leastMass, mass));
    sum += nats;
    squares += nats * nats;
  }
  const average = sum / Math.max(1, masses.length);
  return Math.sqrt(Math.max(0, squares / Math.max(1, masses.length) - average * average));
}

/** What one query attends to; how long it does is not seen in it. */
function attendedIn(
  row: Float32Array,
  masses: Float32Array,
  promptTokens: number,
  bounds: RegionBounds,
): Attended {
  const { textFrom, textTo, evidenceFrom, evidenceTo } = bounds;
  const text = masses.slice().sort();
  const late = Math.ceil(textFrom + (1 - lateRatio) * (textTo - textFrom));
  const lateEvidence = sumOf(row.subarray(Math.max(late, evidenceFrom), Math.max(late, evidenceTo)));
  const all = sumOf(text);
  const answer = sumOf(row.subarray(promptTokens));
  return {
    start: sumOf(row.subarray(0, textFrom)),
    text: all,
    evidence: sumOf(row.subarray(evidenceFrom, evidenceTo)),
    question: sumOf(row.subarray(textTo, promptTokens)),
    answer,
    newest: row[row.length - 1] / Math.max(1e-12, answer),
    textTop01: topShare(text, 0.001),
    textTop1: topShare(text, 0.01),
    textTop10: topShare(text, 0.1),
    textLate: (sumOf(row.subarray(late, textTo)) - lateEvidence) / Math.max(1e-12, all),
    textNats: deviationOf(text),
    textKept: 0,
    textSpread: 1,
  };
}

/** Mean of several measurements. */
export function meanAttended(all: readonly Attended[]): Attended {
  const mean = (of: (each: Attended) => number): number =>
    all.reduce((sum, each) => sum + of(each), 0) / all.length;
  return {
    start: mean(({ start }) => start),
    text: mean(({ text }) => text),
    evidence: mean(({ evidence }) => evidence),
    question: mean(({ question }) => question),
    answer: mean(({ answer }) => answer),
    newest: mean(({ newest }) => newest),
    textTop01: mean(({ textTop01 }) => textTop01),
    textTop1: mean(({ textTop1 }) => textTop1),
    textTop10: mean(({ textTop10 }) => textTop10),
    textLate: mean(({ textLate }) => textLate),
    textNats: mean(({ textNats }) => textNats),
    textKept: mean(({ textKept }) => textKept),
    textSpread: mean(({ textSpread }) => textSpread),
  };
}

const regionNames = [
  'start',
  'text',
  'evidence',
  'question',
  'answer',
] as const satisfies readonly (keyof Regions)[];

/** Divides so that the shares sum to 1. */
function normalise(regions: Regions): Regions {
  const all = regionNames.reduce((sum, region) => sum + regions[region], 0);
  const { start, text, evidence, question, answer } = regions;
  return {
    start: start / all,
    text: text / all,
    evidence: evidence / all,
    question: question / all,
    answer: answer / all,
  };
}

/**
 * Regions of each source [sources][heads] with those of layers that it does not record: another source's there, changed
 * as the two differ in the nearest layer that both record. Every layer is recorded by some source.
 */
export function fillGaps(
  known: readonly (readonly (Attended | null)[])[],
  kvHeads: number,
): readonly (readonly Attended[])[] {
  return known.map((own) =>
    own.map((regions, head) => {
      if (regions !== null) return regions;
      const other = known.findIndex((all) => all[head] !== null);
      const there = known[other][head];
      if (there === null || there === undefined) throw new Error('no source records the layer');
      const change = nearestChange(own, known[other], Math.floor(head / kvHeads), kvHeads);
      const divided = normalise({
        start: there.start * change.start,
        text: there.text * change.text,
        evidence: there.evidence * change.evidence,
        question: there.question * change.question,
        answer: there.answer * change.answer,
      });
      return { ...there, ...divided };
    }),
  );
}

/** How many times more one source has in each region than another, in the nearest layer that both record; else 1. */
function nearestChange(
  own: readonly (Attended | null)[],
  other: readonly (Attended | null)[],
  layer: number,
  kvHeads: number,
): Regions {
  const layers = own.length / kvHeads;
  const change = { start: 1, text: 1, evidence: 1, question: 1, answer: 1 };
  for (let away = 1; away < layers; away++) {
    for (const at of [layer - away, layer + away]) {
      if (at < 0 || at >= layers || own[at * kvHeads] === null || other[at * kvHeads] === null) continue;
      const meanAt = (all: readonly (Attended | null)[]): Regions =>
        meanAttended(all.slice(at * kvHeads, (at + 1) * kvHeads).filter((regions) => regions !== null));
      const [a, b] = [meanAt(own), meanAt(other)];
      for (const region of regionNames) change[region] = a[region] / Math.max(1e-6, b[region]);
      return change;
    }
  }
  return change;
}
