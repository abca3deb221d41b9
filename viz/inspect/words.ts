/** The inspection in words: title, lead, and one finding a figure. Pure text from the result. */
import type { InspectionResult } from '../../traces/attention/inspect/result.ts';
import { formatCount, formatRatio, plural } from '../app/format.ts';
import { cellsOf, formatValue, nameOfCell, statisticOf } from './page.ts';

/** A number stays with its unit when a caption breaks into lines. */
const unbroken = (text: string): string =>
  text.replace(/(\d) (?=%|tokens|bits|blocks|keys|steps?\b)/g, '$1\u00a0');

export const inspectionTitle = ({ trace }: InspectionResult): string => `Attention of ${trace.model}`;

export const inspectionLead = ({ trace, layers, experiment }: InspectionResult): string => {
  const { promptTokens, heads, kvHeads } = trace.shape;
  return `${trace.name}: ${formatCount(promptTokens)} prompt tokens, ${heads} query and ${plural(kvHeads, 'KV head', 'KV heads')}, ${plural(layers.length, 'layer', 'layers')} and ${plural(experiment.steps.length, 'decode step', 'decode steps')} looked at.`;
};

/** The extremes of a statistic over the heads, and its mean. */
export const heatFinding = (result: InspectionResult, key: string): string => {
  const { of, unit, meaning } = statisticOf(key);
  const known = cellsOf(result).flatMap((cell) => {
    const value = of(cell.head);
    return value === null ? [] : [{ ...cell, value }];
  });
  if (known.length === 0) return `Not measured: ${meaning}.`;
  const low = known.reduce((a, b) => (b.value < a.value ? b : a));
  const high = known.reduce((a, b) => (b.value > a.value ? b : a));
  const at = ({ layer, head, value }: (typeof known)[number]): string =>
    `${formatValue(value, unit)} in ${nameOfCell(layer, head.head)}`;
  const mean = formatValue(of(result.overall.mean), unit);
  return unbroken(`From ${at(low)} to ${at(high)}, ${mean} on average: ${meaning}.`);
};

export const concentrationFinding = ({ overall }: InspectionResult): string => {
  const [mean, low] = [overall.mean, overall.p10].map(({ topMass }) => formatRatio(topMass['1%']));
  const keys = formatCount(Math.round(overall.mean.oracleTokens['90%']));
  return unbroken(
    `The top 1 % of the keys hold ${mean} of the attention on average, ${low} or less in one head of ten; 90 % takes ${keys} keys.`,
  );
};

export const localityFinding = ({ overall }: InspectionResult): string => {
  const { reuse, jaccardTopFraction } = overall.mean.locality;
  if (reuse === null || jaccardTopFraction === null)
    return 'No two of the looked-at steps follow each other, so nothing is known of locality.';
  const agree = overall.kvHeads.agreement;
  const group =
    agree === null
      ? ''
      : `; query heads of a KV head have ${formatRatio(agree.massOverlap)} of their attention in common`;
  return unbroken(
    `${formatRatio(reuse['1'])} of the blocks that a step needs were needed by the step before, ${formatRatio(reuse.first)} are new to it${group}.`,
  );
};

export const ageingFinding = ({ overall, experiment }: InspectionResult): string => {
  const { massRecall } = overall.drift;
  const last = experiment.steps[experiment.steps.length - 1];
  if (massRecall.length < 2) return 'One step alone does not age.';
  return unbroken(
    `After ${plural(last, 'step', 'steps')}, the keys that were best at the start still catch ${formatRatio(massRecall[massRecall.length - 1])} of what the best ones would.`,
  );
};
