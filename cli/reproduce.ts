/**
 * `kvtier reproduce`: the published tables of papers against kvtier's own model. Each cell says whether constants of
 * the paper's stack were fitted on it (calibration) or not (test).
 */
import { basename, dirname } from 'node:path';
import * as z from 'zod';
import { RESULT_FORMAT } from '../sim/result.ts';
import { writeError, writeNumber, writeShare } from '../validate/papers/numbers.ts';
import { renderPapersPage } from '../validate/papers/page.ts';
import { checkPaper, loadPaper, paperNames } from '../validate/papers/papers.ts';
import {
  type CellResult,
  type PaperResult,
  type RoleSummary,
  reproduce,
  summarise,
} from '../validate/papers/reproduce.ts';
import type { Paper } from '../validate/papers/schema.ts';
import { nameOrJson } from './name-or-json.ts';
import { outputFile, writeOutput } from './output.ts';
import { renderTable } from './table.ts';
import type { Verb } from './verb.ts';

const flags = z.object({
  paper: z
    .string()
    .optional()
    .describe('paper to reproduce, or a JSON file of your own; default: all (kvtier list papers)'),
  page: outputFile.optional().describe('Markdown file to write: tables, assumptions, constants, sensitivity'),
});

/** Seed of the simulated traces; no cell depends on what it draws. */
const SEED = 1;

/** A paper of the collection, or a file in the same form. */
const paperOf = (given: string): Paper => {
  const named = nameOrJson(given, 'paper');
  return typeof named === 'string' ? loadPaper(named) : checkPaper(named, given);
};

const renderCells = (cells: readonly CellResult[], columns: number): string =>
  renderTable(
    ['table', 'unit', 'published', 'simulated', 'error', 'role', 'cell'],
    cells.map(({ table, unit, published, simulated, errorRatio, role, cell, note }) => [
      table,
      unit,
      writeNumber(published),
      simulated === null ? '–' : writeNumber(simulated),
      writeError(errorRatio),
      role,
      simulated === null && note ? `${cell}: ${note}` : cell,
    ]),
    { columns, right: [2, 3, 4] },
  );

const summaryLine = (name: string, { cells, simulated, medianError, worstError, worstCell }: RoleSummary) =>
  `${name}: ${simulated} of ${cells} cells simulated; error ${writeShare(medianError)} median, ${writeShare(worstError)} worst${worstCell === null ? '' : ` (${worstCell})`}`;

const renderPaper = ({ paper, cells, sensitivity, summary }: PaperResult, columns: number): string =>
  [
    `${paper.name}: ${paper.title} (${paper.sources[0]})`,
    `version: ${paper.version}`,
    ...paper.assumptions.map((assumption) => `assumed: ${assumption}`),
    '',
    renderCells(cells, columns),
    ...(sensitivity.length === 0 ? [] : ['']),
    ...sensitivity.map(
      ({ cell, field, value, simulated, errorRatio }) =>
        `if ${field} were ${JSON.stringify(value)}: ${cell}: ${writeNumber(simulated)} (${writeError(errorRatio)})`,
    ),
    '',
    ...(summary.calibration.cells > 0 ? [summaryLine('calibration', summary.calibration)] : []),
    summaryLine('test', summary.test),
    '',
  ].join('\n');

const renderTotal = (results: readonly PaperResult[]): string => {
  const cells = results.flatMap((result) => result.cells);
  return [
    `${results.length} papers`,
    summaryLine('calibration', summarise(cells, 'calibration')),
    summaryLine('test', summarise(cells, 'test')),
  ].join('\n');
};

export const verb = {
  name: 'reproduce',
  summary: 'published tables of papers against simulation, cell by cell',
  positionals: ['paper'],
  flags,
  examples: [
    'kvtier reproduce wg-kv',
    'kvtier reproduce ttkv --json',
    'kvtier reproduce ./my-paper.json',
    'kvtier reproduce --page docs/papers.md',
  ],
  async run({ paper, page }, context) {
    const papers = (paper === undefined ? paperNames : [paper]).map(paperOf);
    const total = papers.reduce((sum, { cells }) => sum + cells.length, 0);
    const progress = context.progress('simulating cells', total);
    let done = 0;
    const results = papers.map((one) => reproduce(one, () => progress.update(done++)));
    progress.end();
    const cells = results.flatMap((result) => result.cells);
    context.printJson({
      format: RESULT_FORMAT,
      kind: 'reproduce',
      experiment: {
        papers: papers.map(({ name, version, assumptions }) => ({ name, version, assumptions })),
      },
      seed: SEED,
      cells,
      sensitivity: results.flatMap(({ sensitivity }) => sensitivity),
      summary: { calibration: summarise(cells, 'calibration'), test: summarise(cells, 'test') },
    });
    for (const result of results) context.print(renderPaper(result, context.columns));
    if (results.length > 1) context.print(renderTotal(results));
    if (page !== undefined)
      context.note(`wrote ${writeOutput(dirname(page), basename(page), [renderPapersPage(results)])}`);
  },
} satisfies Verb<typeof flags>;
