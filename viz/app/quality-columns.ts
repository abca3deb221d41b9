/** What a policy loses of the attention, as columns of the comparison; older results lack some of the measures. */
import type { PolicyResult, Quality } from '../../sim/result.ts';
import type { Column } from './column.ts';
import { formatNumber, formatRatio } from './format.ts';

/** A column of one measure, "–" where it was not made. */
const measure = (
  column: Pick<Column, 'title' | 'unit' | 'help'>,
  of: (quality: Quality) => number | null | undefined,
  bar: NonNullable<Column['bar']>,
  more: Pick<Column, 'extra'> & {
    readonly text?: (value: number) => string;
    readonly detail?: (quality: Quality) => string;
  } = {},
): Column => {
  const { text = formatRatio, detail, extra = false } = more;
  const value = ({ quality }: PolicyResult): number | null =>
    quality === null ? null : (of(quality) ?? null);
  return {
    ...column,
    value,
    text: (policy) => {
      const measured = value(policy);
      return measured === null ? '–' : text(measured);
    },
    detail: ({ quality }) => (quality === null ? '' : (detail?.(quality) ?? '')),
    bar,
    extra,
  };
};

const prefixed = (prefix: string, value: number | null | undefined): string =>
  value == null ? '' : `${prefix} ${formatRatio(value)}`;

export const qualityColumns: readonly Column[] = [
  measure(
    {
      title: 'Mass recall',
      unit: 'mean',
      help: 'Share of the true attention probability that falls on the tokens which the policy attends to. 100 % = nothing that mattered was left out. Below it, the worst twentieth (5th percentile) over heads and steps.',
    },
    ({ massRecall }) => massRecall.mean,
    'one',
    { detail: ({ massRecall }) => `p5 ${formatRatio(massRecall.p5)}` },
  ),
  measure(
    {
      title: 'Top-k recall',
      unit: 'mean',
      help: 'Share of the truly most attended tokens that the policy attends to, as many as it attends to. Below it, the same for the 100 most attended.',
    },
    ({ topkRecall }) => topkRecall,
    'one',
    { detail: ({ recallAt100 }) => prefixed('top 100', recallAt100) },
  ),
  measure(
    {
      title: 'Of the best',
      unit: 'same size',
      help: 'Mass recall over that of the best possible choice of as many tokens: what a better score could gain at this size. Below it, the tokens that such a choice would need for 95 % of the mass.',
    },
    ({ oracle }) => oracle?.massRatio.mean,
    'one',
    {
      extra: true,
      detail: ({ oracle }) =>
        oracle ? `95 % in ${formatNumber(Math.round(oracle.tokens.at95))} tokens` : '',
    },
  ),
  measure(
    {
      title: 'Output error',
      unit: 'relative',
      help: 'Distance between the attention output with this policy and the exact one, relative to the exact one (L2 norm). 0 = identical. Needs a trace with values. Below it, the worst twentieth (95th percentile).',
    },
    ({ outputError }) => outputError,
    'largest',
    {
      text: formatNumber,
      detail: ({ outputErrorP95 }) => (outputErrorP95 == null ? '' : `p95 ${formatNumber(outputErrorP95)}`),
    },
  ),
  measure(
    {
      title: 'Lost later',
      unit: 'mean',
      help: 'Attention that later queries would have paid to tokens which the policy had dropped for good. Below it, how much of the attention to the tokens that the answer stands in is kept, where the trace names them.',
    },
    ({ eviction }) => eviction?.lostMass.mean,
    'one',
    { extra: true, detail: ({ needle }) => prefixed('evidence', needle?.massRecall) },
  ),
  measure(
    {
      title: 'Choices alike',
      unit: 'step to step',
      help: "How much of one step's choice is in the next one too (Jaccard index): near 100 %, a small set of blocks in GPU memory serves most steps; low, it thrashes.",
    },
    ({ locality }) => locality?.jaccard,
    'one',
    { extra: true },
  ),
  measure(
    {
      title: 'KV held',
      unit: 'bytes over dense',
      help: 'Bytes of KV and indexes in all memories over those of a dense cache, mean over the steps. Below it, the part in GPU memory.',
    },
    ({ byteFootprint: held }) => (held ? held.hbm + held.dram + (held.nvme ?? 0) : null),
    'largest',
    { extra: true, detail: ({ byteFootprint }) => prefixed('in HBM', byteFootprint?.hbm) },
  ),
];
