/** The page of all papers: published and simulated side by side, what was assumed, what was fitted, what was left out. */
import { writeError, writeNumber, writeShare } from './numbers.ts';
import { stackOf } from './papers.ts';
import type { CellResult, PaperResult, RoleSummary, SensitivityResult } from './reproduce.ts';
import type { Paper } from './schema.ts';

const HEAD = `# Papers

Published numbers against kvtier's own model, cell by cell. Written by \`kvtier reproduce --page docs/papers.md\`, not by hand.

A *test* cell was never used to fit anything. A *calibration* cell is what constants of the paper's software stack were fitted on
(at most four a paper; \`npm run fit-papers\`), so its error says nothing. Every simulated number comes from the policy's own
choices, lowered to operations and timed on the hardware profile; where a set-up is not published, the assumption stands under
the paper's name, with rows that show what it moves.
`;

const row = (cells: readonly string[]): string =>
  `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;

const table = (
  header: readonly string[],
  rule: readonly string[],
  rows: readonly (readonly string[])[],
): string => [row(header), row(rule), ...rows.map(row)].join('\n');

const list = (items: readonly string[]): string => items.map((item) => `- ${item}`).join('\n');

const section = (title: string, body: string): string[] =>
  body === '' ? [] : [`### ${title}`, '', body, ''];

const summaryRow = (name: string, role: string, summary: RoleSummary): string[] => [
  name,
  role,
  `${summary.simulated} of ${summary.cells}`,
  writeShare(summary.medianError),
  writeShare(summary.worstError),
  summary.worstCell ?? '',
];

const summaryTable = (results: readonly PaperResult[]): string =>
  table(
    ['paper', 'role', 'cells simulated', 'median error', 'worst error', 'worst cell'],
    ['---', '---', '--:', '--:', '--:', '---'],
    results.flatMap(({ paper, summary }) => [
      summaryRow(`[${paper.name}](#${paper.name})`, 'test', summary.test),
      ...(summary.calibration.cells > 0 ? [summaryRow(paper.name, 'calibration', summary.calibration)] : []),
    ]),
  );

const cellRow = (cell: CellResult): string[] => [
  cell.cell,
  cell.unit,
  writeNumber(cell.published),
  cell.simulated === null ? '–' : writeNumber(cell.simulated),
  writeError(cell.errorRatio),
  cell.role,
  cell.note ? `${cell.source}. ${cell.note}` : cell.source,
];

const cellTables = (cells: readonly CellResult[]): string => {
  const names = [...new Set(cells.map(({ table: name }) => name))];
  return names
    .map((name) =>
      [
        `### ${name}`,
        '',
        table(
          ['cell', 'unit', 'published', 'simulated', 'error', 'role', 'source'],
          ['---', '---', '--:', '--:', '--:', '---', '---'],
          cells.filter((cell) => cell.table === name).map(cellRow),
        ),
        '',
      ].join('\n'),
    )
    .join('\n');
};

const sensitivityTable = (rows: readonly SensitivityResult[]): string =>
  rows.length === 0
    ? ''
    : table(
        ['cell', 'field', 'value', 'simulated', 'error', 'why'],
        ['---', '---', '--:', '--:', '--:', '---'],
        rows.map(({ cell, field, value, simulated, errorRatio, why }) => [
          cell,
          field,
          JSON.stringify(value),
          writeNumber(simulated),
          writeError(errorRatio),
          why,
        ]),
      );

const constants = (paper: Paper): string => {
  const names = [...new Set(Object.values(paper.setups).map(({ stack }) => stack))];
  const rows = names.flatMap((name) => {
    const { title, hardware, stack, stated, fitted } = stackOf(paper, name);
    return [
      [name, 'base', `${hardware}, ${stack}`, 'kvtier list hardware, stacks', title],
      ...stated.map(({ path, value, status, source, how }) => [
        name,
        path,
        String(value),
        status,
        `${how}; ${source}`,
      ]),
      ...fitted.map(({ path, value, how, cells }) => [
        name,
        path,
        String(value),
        `fitted on ${cells.join('; ')}`,
        how,
      ]),
    ];
  });
  return table(['stack', 'constant', 'value', 'from', 'what'], ['---', '---', '--:', '---', '---'], rows);
};

const paperSection = ({ paper, cells, sensitivity }: PaperResult): string =>
  [
    `## ${paper.name}`,
    '',
    `${paper.title}. Version: ${paper.version}`,
    '',
    list(paper.sources),
    '',
    ...section('Assumptions', list(paper.assumptions)),
    ...section('Stack', constants(paper)),
    cellTables(cells),
    ...section('Sensitivity', sensitivityTable(sensitivity)),
    ...section('Not simulated', list(paper.left.map(({ claim, why }) => `${claim}: ${why}.`))),
  ].join('\n');

export const renderPapersPage = (results: readonly PaperResult[]): string =>
  `${[HEAD, summaryTable(results), '', ...results.map(paperSection)].join('\n').trimEnd()}\n`;
