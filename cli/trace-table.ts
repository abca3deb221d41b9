/** An inspection for people: a line a layer, the mean and spread of all heads, and a strip that shows every head. */
import type { InspectedLayer } from '../traces/attention/inspect/inspect.ts';
import type { InspectionResult } from '../traces/attention/inspect/result.ts';
import type { HeadStatistics } from '../traces/attention/inspect/statistics.ts';
import { formatCount } from './format.ts';
import { renderTable } from './table.ts';

const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const percent = (ratio: number | null | undefined): string =>
  ratio === null || ratio === undefined ? '–' : `${(100 * ratio).toFixed(0)}`;

const tokens = (count: number): string => (count < 1000 ? count.toFixed(0) : formatCount(count));

/** A mark a query head, by the mass in its top 1 %; a gap between KV heads that share none. */
const stripOf = ({ heads }: InspectedLayer): string =>
  heads
    .map(({ topMass, kvHead }, at) => {
      const level = Math.min(LEVELS.length - 1, Math.floor(topMass['1%'] * LEVELS.length));
      const parted =
        at > 0 && heads.length > 1 && heads[at - 1].kvHead !== kvHead && heads[1].kvHead === heads[0].kvHead;
      return `${parted ? '·' : ''}${LEVELS[level]}`;
    })
    .join('');

interface Column {
  readonly header: string;
  readonly cell: (head: HeadStatistics) => string;
}

const COLUMNS: readonly Column[] = [
  { header: 'top 1%', cell: (head) => percent(head.topMass['1%']) },
  { header: 'top 10%', cell: (head) => percent(head.topMass['10%']) },
  { header: 'K(90%)', cell: (head) => tokens(head.oracleTokens['90%']) },
  { header: 'bits', cell: (head) => head.entropyBits.toFixed(1) },
  { header: 'sink', cell: (head) => percent(head.sinkShare) },
  { header: 'last 256', cell: (head) => percent(head.recentShare['256']) },
  { header: 'next step', cell: (head) => percent(head.locality.jaccardTopFraction) },
  { header: 'reused', cell: (head) => percent(head.locality.reuse?.['1']) },
  { header: 'group', cell: (head) => percent(head.agreement?.massOverlap) },
  { header: 'drift', cell: (head) => percent(head.drift.massRecall) },
  { header: 'best of 16', cell: (head) => percent(head.blocks.topTokenShare['16']) },
  { header: 'blocks', cell: (head) => tokens(head.blocks.blocks90) },
];

const LEGEND = [
  'Means over heads and looked-at steps, in % where no unit is given. top 1%, top 10%: attention on the keys that get',
  'most. K(90%): fewest keys that hold 90 %. bits: entropy. sink: first 4 tokens. next step: Jaccard index of the',
  'top 1 % of successive steps. reused: selected 16-token blocks that the step before selected too. group: attention',
  "in common with the KV head's other query heads. drift: attention that step 0's top 1 % still catches at the end, of",
  'what the best set would. best of 16: attention on the best token of its 16-token block. blocks: 128-token blocks for',
  '90 %. heads: a mark a query head, taller with more in its top 1 %.',
];

export const renderInspection = (
  { trace, experiment, layers, overall, notes, digest }: InspectionResult,
  columns: number,
): string => {
  const { promptTokens, heads, kvHeads, headDim } = trace.shape;
  const row = (name: string, head: HeadStatistics, strip: string): readonly string[] => [
    name,
    ...COLUMNS.map(({ cell }) => cell(head)),
    strip,
  ];
  const header = ['layer', ...COLUMNS.map((column) => column.header), 'heads'];
  const rows = [
    ...layers.map((layer) => row(String(layer.layer), layer.mean, stripOf(layer))),
    row('all', overall.mean, ''),
    row('p10', overall.p10, ''),
    row('p90', overall.p90, ''),
  ];
  return [
    `${trace.name}: attention of ${trace.model}, ${promptTokens} prompt tokens, ${heads} query and ${kvHeads} KV heads of ${headDim}`,
    `${layers.length} layers, ${experiment.steps.length} steps looked at`,
    '',
    renderTable(header, rows, { columns, right: header.map((_, at) => at).slice(0, -1) }),
    '',
    ...LEGEND,
    ...notes,
    `digest ${digest.slice(0, 16)}`,
  ].join('\n');
};
