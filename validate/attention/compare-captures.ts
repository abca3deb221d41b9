/**
 * `node dist/validate/attention/compare-captures.js --preset NAME CAPTURE…`: how far the synthetic attention of a preset
 * is from captures, as Markdown (or `--json`). `--pairs` compares the captures with each other instead.
 */
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { TraceError } from '../../traces/error.ts';
import { type Fidelity, measureFidelity } from './fidelity.ts';
import { outcomeTable, statisticTable, summaryHead, summaryRow } from './fidelity-report.ts';
import { compareOutcomes, meanCells } from './residuals.ts';

const usage =
  'usage: compare-captures.js --preset NAME [--layers N] [--every N] [--seed N] [--pairs] [--json] CAPTURE.safetensors…\n';

const nameOf = (path: string): string => basename(path, '.safetensors');

function parse() {
  return parseArgs({
    options: {
      preset: { type: 'string' },
      layers: { type: 'string', default: '6' },
      every: { type: 'string', default: '8' },
      seed: { type: 'string', default: '1' },
      pairs: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
}

function markdown(measured: readonly Fidelity[]): string {
  const names = measured.map(({ trace }) => nameOf(trace));
  const sameCells = measured.every(
    ({ real, layers }) =>
      real.length === measured[0].real.length && layers.length === measured[0].layers.length,
  );
  const together =
    measured.length > 1 && sameCells
      ? [
          summaryRow('mean of the prompts', {
            residuals: compareOutcomes(
              meanCells(measured.map(({ real }) => real)),
              meanCells(measured.map(({ synthetic }) => synthetic)),
            ),
          }),
        ]
      : [];
  return [
    [summaryHead, ...measured.map((each, i) => summaryRow(names[i], each)), ...together].join('\n'),
    ...measured.map((each, i) => `${names[i]}\n\n${outcomeTable(each)}`),
    statisticTable(measured, names),
  ].join('\n\n');
}

/** How far one real prompt is from another: what no generator needs to beat. */
function pairs(measured: readonly Fidelity[]): string {
  const rows = measured.flatMap((one, i) =>
    measured.slice(i + 1).flatMap((other) => {
      if (one.real.length !== other.real.length || `${one.layers}` !== `${other.layers}`) return [];
      const residuals = compareOutcomes(one.real, other.real);
      return [summaryRow(`${nameOf(one.trace)} and ${nameOf(other.trace)}`, { residuals })];
    }),
  );
  return [summaryHead, ...rows].join('\n');
}

function main(): number {
  const { values, positionals } = parse();
  const [layers, everySteps, seed] = [values.layers, values.every, values.seed].map(Number);
  if (
    values.preset === undefined ||
    positionals.length === 0 ||
    ![layers, everySteps].every((n) => Number.isInteger(n) && n > 0) ||
    !Number.isInteger(seed)
  ) {
    process.stderr.write(usage);
    return 2;
  }
  const { preset } = values;
  const measured = positionals.map((path) => {
    const file = openAttentionFile(path);
    const statistics = !values.pairs;
    const result = measureFidelity(file, { preset, layers, everySteps, seed, statistics });
    file.close();
    return result;
  });
  const text = values.pairs ? pairs(measured) : markdown(measured);
  process.stdout.write(`${values.json ? JSON.stringify(measured, null, 2) : text}\n`);
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof TraceError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
