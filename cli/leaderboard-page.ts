/** The leaderboard as a Markdown page: one table over all traces, one a trace, and how to read and make them. */
import { formatBytes, formatNs, formatRatio } from './format.ts';
import type { Cost, Row } from './leaderboard-board.ts';

export interface Board {
  /** The trace in words. */
  readonly title: string;
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
  readonly digest: string;
}

export interface LeaderboardPage {
  readonly budgetTokens: number;
  readonly setting: string;
  readonly overall: readonly Row[];
  readonly boards: readonly Board[];
  /** Policies that could not run, with the reason. */
  readonly refused: readonly string[];
  /** The command line that makes it again. */
  readonly command: string;
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map((_, i) => (i === 0 ? '---' : '--:')), ...rows]
    .map((cells) => `| ${cells.map(cell).join(' | ')} |`)
    .join('\n');

/** A value, in bold where the policy is on the front of that cost. */
const marked = (row: Row, cost: Cost, text: string): string =>
  row.fronts.includes(cost) ? `**${text}**` : text;

const byError = (rows: readonly Row[]): readonly Row[] =>
  [...rows].sort((a, b) => a.outputError - b.outputError || a.bytesPerStep - b.bytesPerStep);

const nameOf = ({ policy, atBudget, best }: Row): string =>
  `${best ? `**${policy}**` : policy}${atBudget ? '' : ' °'}`;
const times = (x: number): string => `${x >= 0.0995 ? x.toFixed(2) : x.toPrecision(2)}×`;

/** How one table shows its costs: relative to full attention, or as they are. */
interface Formats {
  readonly bytes: (x: number) => string;
  readonly time: (x: number) => string;
}
const RELATIVE: Formats = { bytes: times, time: times };
const ABSOLUTE: Formats = { bytes: formatBytes, time: formatNs };

const boardTable = (rows: readonly Row[], { bytes, time }: Formats): string =>
  table(
    [
      'policy',
      'output error',
      'mass recall',
      'bytes/step',
      'of them over the link',
      'step time',
      'KV in HBM',
    ],
    byError(rows).map((row) => [
      nameOf(row),
      formatRatio(row.outputError),
      formatRatio(row.massRecall),
      marked(row, 'bytesPerStep', bytes(row.bytesPerStep)),
      row.linkBytesPerStep === 0 ? '–' : bytes(row.linkBytesPerStep),
      marked(row, 'stepNs', time(row.stepNs)),
      marked(row, 'hbmBytes', bytes(row.hbmBytes)),
    ]),
  );

const section = ({ title, rows, notes, digest }: Board): string =>
  [`## ${title}`, boardTable(rows, ABSOLUTE), ...notes, `Digest \`${digest.slice(0, 16)}\`.`].join('\n\n');

/** Lines of what policies used instead of what a trace lacks, once each. */
const inputsOf = (boards: readonly Board[]): readonly string[] => {
  const lines = boards.flatMap(({ rows }) =>
    rows.flatMap(({ policy, inputs }) => (inputs === 'exact' ? [] : [`- ${policy}: ${inputs}`])),
  );
  return [...new Set(lines)].sort();
};

export const renderLeaderboard = (page: LeaderboardPage): string => {
  const { budgetTokens, setting, boards, refused, command } = page;
  const inputs = inputsOf(boards);
  return `${[
    '# Leaderboard',
    `All policies on recorded attention, each query head attending to at most ${budgetTokens} tokens and those generated since the prompt. ${setting}`,
    `Costs of the first table are relative to full attention on the same trace, means over ${boards.length} traces; rows are sorted by output error. A policy in **bold** is on the Pareto front of all three costs and output error; a cost in **bold** is on the front of that cost alone: no policy is both cheaper in it and nearer to exact attention. Bytes are KV and index bytes read, in HBM, in DRAM by the CPU, or over the link. ° takes no token budget and runs with its own defaults.`,
    '![Output error over each cost; the Pareto front of all of them in blue, that of each panel as a line](leaderboard.svg)',
    boardTable(page.overall, RELATIVE),
    'Read it with care: a token budget treats a policy that keeps everything in DRAM and one that forgets alike, and only the columns tell them apart. Mass recall and output error are those of teacher-forced attention, not of a benchmark, and say nothing of what errors of one layer do to the next. Published parameters other than sizes are untouched; no layer is left dense. A policy whose trained part the traces lack shows the error of what stands in for it, not its own ([which, and what bounds it](policies.md#what-stands-in-for-trained-parts)). DeltaKV’s full layers choose for the others and attend to their own best tokens; its quality is that of its sparse layers.',
    ...boards.map(section),
    '## What stood in for what the traces lack',
    inputs.length === 0 ? 'Nothing: all inputs were exact.' : inputs.join('\n'),
    ...(refused.length === 0 ? [] : ['## Left out', refused.map((line) => `- ${line}`).join('\n')]),
    '## Again',
    `\`\`\`sh\n${command}\n\`\`\``,
  ].join('\n\n')}\n`;
};
