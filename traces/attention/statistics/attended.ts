/** Where an answer's attention goes in a trace: what a head of the generator is balanced to. */
import { attendExactly, createExactAttention } from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import type { Attended, Regions } from '../presets/preset.ts';
import { answerTokens, startTokens } from '../synthetic/balance.ts';
import { topShare } from './measured.ts';

const sampledSteps = 12;

/** Over the first tokens of the answer, as a generated head is balanced. */
export function measureAttended(
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  questionTokens: number,
): Attended {
  const { heads, kvHeads, headDim, promptTokens } = trace.shape;
  const steps = Math.min(answerTokens, trace.shape.steps);
  const group = heads / kvHeads;
  const exact = createExactAttention(group, promptTokens + steps, 0);
  const keys = trace.keys(layer, kvHead);
  const count = Math.min(sampledSteps, steps);
  const ends = [Math.min(startTokens, promptTokens), Math.max(startTokens, promptTokens - questionTokens)];
  const sums = { start: 0, text: 0, question: 0, answer: 0, textTop01: 0, textTop1: 0, textTop10: 0 };
  for (let i = 0; i < count; i++) {
    const length = promptTokens + Math.floor(((i + 0.5) * steps) / count) + 1;
    attendExactly(
      exact,
      trace.queries(layer, length - promptTokens - 1, kvHead),
      keys,
      null,
      headDim,
      length,
    );
    for (let g = 0; g < group; g++) {
      const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + length);
      const part = (from: number, to: number): number => {
        let sum = 0;
        for (let t = from; t < to; t++) sum += row[t];
        return sum / count / group;
      };
      sums.start += part(0, ends[0]);
      sums.text += part(ends[0], ends[1]);
      const text = row.slice(ends[0], ends[1]).sort();
      sums.textTop01 += topShare(text, 0.001) / count / group;
      sums.textTop1 += topShare(text, 0.01) / count / group;
      sums.textTop10 += topShare(text, 0.1) / count / group;
      sums.question += part(ends[1], promptTokens);
      sums.answer += part(promptTokens, length);
    }
  }
  return sums;
}

/** Mean of several measurements. */
export function meanAttended(all: readonly Attended[]): Attended {
  const mean = (of: (each: Attended) => number): number =>
    all.reduce((sum, each) => sum + of(each), 0) / all.length;
  return {
    start: mean(({ start }) => start),
    text: mean(({ text }) => text),
    question: mean(({ question }) => question),
    answer: mean(({ answer }) => answer),
    textTop01: mean(({ textTop01 }) => textTop01),
    textTop1: mean(({ textTop1 }) => textTop1),
    textTop10: mean(({ textTop10 }) => textTop10),
  };
}

const regionNames = ['start', 'text', 'question', 'answer'] as const;

/** Divides so that the shares sum to 1. */
function normalise(regions: Regions): Regions {
  const all = regions.start + regions.text + regions.question + regions.answer;
  const { start, text, question, answer } = regions;
  return { start: start / all, text: text / all, question: question / all, answer: answer / all };
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
      const { start, text, question, answer } = there;
      const divided = normalise({
        start: start * change.start,
        text: text * change.text,
        question: question * change.question,
        answer: answer * change.answer,
      });
      const { textTop01, textTop1, textTop10 } = there;
      return { ...divided, textTop01, textTop1, textTop10 };
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
  const change = { start: 1, text: 1, question: 1, answer: 1 };
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
