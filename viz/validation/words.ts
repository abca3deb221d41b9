/** A validation in words: title, lead, and one finding a figure. */
import { formatNs, formatRatio, plural } from '../app/format.ts';
import { errorOf, groupOf, type ValidatedCase, type ValidationResult } from './page.ts';

export const validationTitle = ({ machine }: ValidationResult): string =>
  `How far is the model from ${machine.name}?`;

/** What predicted: the profile, and its software where that was not measured with it. */
export const predictorOf = ({ hardware, stack }: ValidationResult['experiment']): string =>
  hardware === stack ? hardware : `${hardware} with ${stack}`;

export const validationLead = ({ machine, experiment, cases }: ValidationResult): string => {
  const policies = new Set(cases.map(({ policy }) => policy)).size;
  return `${plural(cases.length, 'decode step', 'decode steps')} of ${plural(policies, 'policy', 'policies')}, run by ${machine.backend} kernels on ${machine.date} and predicted from the profile ${predictorOf(experiment)}. Nothing was fitted on them.`;
};

export const scatterFinding = ({ summary }: ValidationResult): string =>
  `Predictions are off by ${formatRatio(summary.mape)} on average, ${formatRatio(summary.medianApe)} in the middle case and ${formatRatio(summary.p95Ape)} in one of twenty.`;

export const residualFinding = (result: ValidationResult): string => {
  const worst = result.cases.reduce((a, b) => (Math.abs(errorOf(b)) > Math.abs(errorOf(a)) ? b : a));
  const noise = result.summary.noiseApe;
  const floor = noise === null ? '' : ` Measuring again differs by ${formatRatio(noise)}.`;
  return `Worst is ${worst.policy} at ${groupOf(worst)}: ${formatNs(worst.predictedNs)} predicted, ${formatNs(worst.measuredNs)} measured.${floor}`;
};

/** The cases of the group with most policies; of equal ones the longest steps. */
export const largestGroup = ({ cases }: ValidationResult): readonly ValidatedCase[] => {
  const groups = new Map<string, ValidatedCase[]>();
  for (const one of cases) groups.set(groupOf(one), [...(groups.get(groupOf(one)) ?? []), one]);
  const total = (group: readonly ValidatedCase[]): number =>
    group.reduce((sum, { measuredNs }) => sum + measuredNs, 0);
  return [...groups.values()].sort((a, b) => b.length - a.length || total(b) - total(a))[0] ?? [];
};

export const rankingFinding = (result: ValidationResult): string => {
  const { kendallTau, signAccuracy } = result.summary;
  if (kendallTau === null) return 'One policy alone has no rank.';
  const sign =
    signAccuracy === null
      ? ''
      : ` Of pairs apart by more than noise, ${formatRatio(signAccuracy)} are in the right order.`;
  return `Kendall's tau of predicted and measured order is ${kendallTau.toFixed(2)}, averaged over contexts and batches.${sign}`;
};

export const kindFinding = (result: ValidationResult): string => {
  const sums = kindSums(result);
  const largest = sums.reduce((a, b) => (b.measuredNs > a.measuredNs ? b : a));
  return `Most time goes to ${largest.kind}: ${formatNs(largest.measuredNs)} measured in all cases, ${formatNs(largest.predictedNs)} predicted.`;
};

export interface KindSum {
  readonly kind: string;
  readonly predictedNs: number;
  readonly measuredNs: number;
}

/** Operations by kind over all cases, longest first. */
export const kindSums = ({ cases }: ValidationResult): readonly KindSum[] => {
  const sums = new Map<string, { kind: string; predictedNs: number; measuredNs: number }>();
  for (const { kind, predictedNs, measuredNs } of cases.flatMap((one) => one.kinds)) {
    const sum = sums.get(kind) ?? { kind, predictedNs: 0, measuredNs: 0 };
    sum.predictedNs += predictedNs;
    sum.measuredNs += measuredNs;
    sums.set(kind, sum);
  }
  return [...sums.values()].sort((a, b) => b.measuredNs - a.measuredNs);
};
