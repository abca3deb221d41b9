/** An inspection for people: a line a layer, the mean and spread of all heads, and a strip that shows every head. */
import type { InspectedLayer } from '../traces/attention/inspect/inspect.ts';
import type { InspectionResult } from '../traces/attention/inspect/result.ts';
import type { HeadStatistics } from '../traces/attention/inspect/statistics.ts';
import { formatCount } from './format.ts';
import { renderTable, widthOf } from './table.ts';

const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const percent = (ratio: number | null | undefined): string =>
  ratio === null || ratio === undefined ? '–' : `${(100 * ratio).toFixed(0)}`;

const tokens = (count: number): string => (count < 1000 ? count.toFixed(0) : formatCount(count));

const mark = (ratio: number): string =>
  LEVELS[Math.min(LEVELS.length - 1, Math.floor(ratio * LEVELS.length))];

/** A mark a query head, by the mass in its top 1 %; KV heads stand apart where they have several. */
const markHeads = ({ heads, kvHeads }: InspectedLayer): string =>
  kvHeads
    .map(({ kvHead }) =>
      heads
        .filter((head) => head.kvHead === kvHead)
        .map(({ topMass }) => mark(topMass['1%']))
        .join(''),
    )
    .join(heads.length > kvHeads.length ? '·' : '');

/** A mark a KV head, of the mean attention of its query heads. */
const markKvHeads = ({ kvHeads }: InspectedLayer): string =>
  kvHeads.map(({ group }) => mark(group.topMass['1%'])).join('');

/** Marks of heads where the terminal has room for them; else of KV heads, else none. */
const STRIPS = [
  { header: 'heads', of: markHeads, words: 'heads: a mark a query head, taller with more in its top 1 %.' },
  {
    header: 'KV heads',
    of: markKvHeads,
    words: 'KV heads: a mark each, taller with more in the top 1 % of its query heads together.',
  },
] as const;

interface Column {
  readonly header: string;
  readonly cell: (head: HeadStatistics) => string;
}

const COLUMNS: readonly Column[] = [
  { header: 'top 1%', cell: (head) => percent(head.topMass['1%']) },
  { header: 'K(90%)', cell: (head) => tokens(head.oracleTokens['90%']) },
  { header: 'bits', cell: (head) => head.entropyBits.toFixed(1) },
  { header: 'sink', cell: (head) => percent(head.sinkShare) },
  { header: 'last 256', cell: (head) => percent(head.recentShare['256']) },
  { header: 'next step', cell: (head) => percent(head.locality.jaccardTopFraction) },
  { header: 'reused', cell: (head) => percent(head.locality.reuse?.['1']) },
  { header: 'group', cell: (head) => percent(head.agreement?.massOverlap) },
  { header: 'drift', cell: (head) => percent(head.drift.massRecall) },
  { header: 'best/16', cell: (head) => percent(head.blocks.topTokenShare['16']) },
];

const LEGEND = [
  'Means over heads and looked-at steps, in % where no unit is given. top 1%: attention on the keys that get most.',
  'K(90%): fewest keys that hold 90 %. bits: entropy. sink: first 4 tokens. next step: Jaccard index of the top 1 %',
  'of successive steps. reused: selected 16-token blocks that the step before selected too. group: attention in',
  "common with the KV head's other query heads. drift: attention that step 0's top 1 % still catches at the end, of",
  'what the best set would. best/16: attention on the best token of its 16-token block.',
];

const GAP_COLUMNS = 2;

/** The strip that still fits beside these columns. */
const stripFor = (
  header: readonly string[],
  rows: readonly (readonly string[])[],
  layer: InspectedLayer,
  columns: number,
) => {
  const taken = header.reduce(
    (sum, name, at) => sum + GAP_COLUMNS + Math.max(widthOf(name), ...rows.map((row) => widthOf(row[at]))),
    0,
  );
  return STRIPS.find(({ header: name, of }) => taken + Math.max(name.length, of(layer).length) <= columns);
};

export const renderInspection = (result: InspectionResult, columns: number): string => {
  const { trace, experiment, layers, overall, notes, digest } = result;
  const { promptTokens, heads, kvHeads, headDim } = trace.shape;
  const row = (name: string, head: HeadStatistics): readonly string[] => [
    name,
    ...COLUMNS.map(({ cell }) => cell(head)),
  ];
  const header = ['layer', ...COLUMNS.map((column) => column.header)];
  const rows = [
    ...layers.map((layer) => row(String(layer.layer), layer.mean)),
    row('all', overall.mean),
    row('p10', overall.p10),
    row('p90', overall.p90),
  ];
  const strip = stripFor(header, rows, layers[0], columns);
  const right = header.map((_, at) => at);
  const table =
    strip === undefined
      ? renderTable(header, rows, { columns, right })
      : renderTable(
          [...header, strip.header],
          rows.map((cells, at) => [...cells, at < layers.length ? strip.of(layers[at]) : '']),
          { columns, right },
        );
  return [
    `${trace.name}: attention of ${trace.model}, ${promptTokens} prompt tokens, ${heads} query and ${kvHeads} KV heads of ${headDim}`,
    `${layers.length} layers, ${experiment.steps.length} steps looked at`,
    '',
    table,
    '',
    ...LEGEND,
    ...(strip === undefined ? [] : [strip.words]),
    ...notes,
    `digest ${digest.slice(0, 16)}`,
  ].join('\n');
};
