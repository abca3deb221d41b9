/**
 * Runs every benchmark of this folder, or those whose file names are given, and prints speed, budget and ratio.
 * `--json` prints one JSON document. A missed budget is said; only wrong work (count or digest) fails the run.
 */
import { readdirSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { type Bench, type BenchResult, calibrate } from './bench.ts';

const isBench = (value: unknown): value is Bench =>
  typeof value === 'object' && value !== null && 'run' in value && 'budget' in value;

/** The benches of this folder by file name, in alphabetical order. */
const load = async (only: readonly string[]): Promise<Bench[]> => {
  const files = readdirSync(import.meta.dirname).filter((file) => /^[a-z0-9-]+\.(js|ts)$/.test(file));
  const benches: Bench[] = [];
  for (const file of files.sort()) {
    const name = file.replace(/\.(js|ts)$/, '');
    if (name === 'main' || (only.length > 0 && !only.includes(name))) continue;
    const module: unknown = await import(new URL(file, import.meta.url).href);
    if (typeof module === 'object' && module !== null && 'bench' in module && isBench(module.bench)) {
      benches.push(module.bench);
    }
  }
  return benches;
};

interface Row extends BenchResult {
  readonly name: string;
  readonly unit: string;
  readonly budget: number;
  readonly met: boolean;
}

const verdict = (row: Row): string => (row.ok ? (row.met ? 'met' : 'MISSED') : 'WRONG');

const line = (cells: readonly string[]): string =>
  `${cells[0].padEnd(30)} ${cells[1].padStart(8)} ${cells[2].padStart(8)} ${cells[3].padEnd(14)} ${cells[4].padEnd(8)} ${cells[5].padStart(8)}`;

const main = async (): Promise<void> => {
  const args = process.argv.slice(2);
  const json = args.includes('--json');
  const only = args.filter((arg) => !arg.startsWith('--'));
  const benches = await load(only);
  if (benches.length === 0) {
    process.stderr.write(`bench: expected file names of ${import.meta.dirname}, got ${only.join(', ')}\n`);
    process.exitCode = 2;
    return;
  }
  if (!json) console.log(line(['bench', 'speed', 'budget', 'unit', '', 'ratio*']));
  const rows: Row[] = [];
  for (const bench of benches) {
    const result = await bench.run(calibrate());
    const row = {
      name: bench.name,
      unit: bench.unit,
      budget: bench.budget,
      met: result.value >= bench.budget,
      ...result,
    };
    rows.push(row);
    if (json) continue;
    console.log(
      line([
        row.name,
        row.value.toFixed(2),
        String(row.budget),
        row.unit,
        verdict(row),
        row.ratio.toFixed(4),
      ]),
    );
    console.log(`  ${row.detail}`);
  }
  if (json) {
    const host = {
      cpu: cpus()[0]?.model ?? '',
      cores: availableParallelism(),
      load1: loadavg()[0],
      node: process.version,
    };
    console.log(JSON.stringify({ format: 'kvtier.bench/1', host, benches: rows }, null, 2));
  } else {
    console.log(
      '* work items per iteration of a plain typed-array loop, timed just before in the same process; all in CPU seconds',
    );
  }
  if (rows.some((row) => !row.ok)) process.exitCode = 1;
};

await main();
