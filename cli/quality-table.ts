/** The second table of a comparison (`--quality`): where quality is lost, and what its measures cannot show. */
import type { CompareResult, PolicyResult, Quality } from '../sim/result.ts';
import { formatRatio } from './format.ts';
import { renderTable } from './table.ts';

interface Column {
  readonly title: string;
  readonly text: (quality: Quality) => string | undefined;
}

const ratio = (x: number | null | undefined): string | undefined => (x == null ? undefined : formatRatio(x));

/** Recall of the last stretch of the run less that of the first, in points. */
const driftOf = ({ drift = [] }: Quality): string | undefined => {
  const [first, last] = [drift.at(0), drift.at(-1)];
  if (first === undefined || last === undefined || drift.length < 2) return undefined;
  const points = 100 * (last.massRecall - first.massRecall);
  return `${points < 0 ? '−' : '+'}${Math.abs(points).toFixed(1)}`;
};

const heldOf = ({ byteFootprint }: Quality): string | undefined =>
  byteFootprint === undefined
    ? undefined
    : formatRatio(byteFootprint.hbm + byteFootprint.dram + (byteFootprint.nvme ?? 0));

const COLUMNS: readonly Column[] = [
  { title: 'top 100', text: ({ recallAt100 }) => ratio(recallAt100) },
  { title: 'of best', text: ({ oracle }) => ratio(oracle?.massRatio.mean) },
  { title: 'by value', text: ({ valueMass }) => ratio(valueMass?.mean) },
  { title: 'weights off', text: ({ totalVariation }) => ratio(totalVariation?.mean) },
  { title: 'worst error', text: ({ outputErrorP95 }) => ratio(outputErrorP95) },
  { title: 'logit error', text: ({ codec }) => codec?.logitRms?.toPrecision(2) },
  { title: 'lost', text: ({ eviction }) => ratio(eviction?.lostMass.mean) },
  { title: 'evidence', text: ({ needle }) => ratio(needle?.massRecall) },
  { title: 'kept right', text: ({ admission }) => ratio(admission?.precision) },
  { title: 'alike', text: ({ locality }) => ratio(locality?.jaccard) },
  { title: 'drift', text: driftOf },
  { title: 'held', text: heldOf },
];

const LEGEND = [
  'top 100: share of the 100 most attended tokens that the policy attends to. of best: its recall over that of the best',
  'choice of as many tokens. by value: recall with tokens weighted by the length of their values. weights off: half the',
  'difference of attention weights (what is left out, or coded wrongly). worst error: 95th percentile of the output error.',
  'logit error: root mean square over coded keys. lost: attention that dropped tokens would have got. evidence: attention',
  'to the tokens with the answer that is kept. kept right: prompt tokens kept that the future attends to most. alike: Jaccard',
  'index of choices in a row. drift: recall at the end less at the start, points. held: KV bytes in all tiers over dense.',
];

const rowOf = ({ policy, quality }: PolicyResult): readonly string[] => [
  policy,
  ...COLUMNS.map(({ text }) => (quality === null ? undefined : text(quality)) ?? '–'),
];

export const renderQuality = (result: CompareResult, columns: number): string => {
  const header = ['policy', ...COLUMNS.map(({ title }) => title)];
  const right = header.map((_, at) => at).slice(1);
  const table = renderTable(header, result.policies.map(rowOf), { columns: Math.max(columns, 160), right });
  return [table.trimEnd(), '', ...LEGEND, ...(result.limits ?? [])].join('\n');
};
