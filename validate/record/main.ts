/**
 * Recording evidence, from the folder of a checkout after a build (docs/validation.md, "Evidence"):
 * `npm run record -- prepare FOLDER`, `measure MACHINE FOLDER`, `count MACHINE FOLDER` (under Nsight Compute), `take MACHINE
 * [FOLDER]`, `judge`.
 */
import { parseArgs } from 'node:util';
import { SimError } from '../../sim/error.ts';
import { type EvidenceRecord, writeRecords } from '../policies/evidence.ts';
import { writeJudgedCounters } from '../traffic/judge.ts';
import { countMachine } from './count.ts';
import { measureParts, partsOf } from './measure.ts';
import { readPlan } from './plan.ts';
import { prepareSets } from './prepare.ts';
import { takeMachine } from './take.ts';

const USAGE =
  'usage: record prepare FOLDER [--sets a,b] | measure MACHINE FOLDER [--parts calibration,a] | count MACHINE FOLDER [--ncu PATH] | take MACHINE [FOLDER] | judge';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

const today = (): string => new Date().toISOString().slice(0, 10);

const listOf = (text: string | undefined): readonly string[] | undefined => text?.split(',');

const show = (records: readonly EvidenceRecord[]): void => {
  for (const { name, mape, bias, kendallTau } of records)
    process.stdout.write(`${name}: error ${mape}, bias ${bias}, Kendall tau ${kendallTau ?? 'none'}\n`);
};

const run = async (): Promise<boolean> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      sets: { type: 'string' },
      parts: { type: 'string' },
      ncu: { type: 'string', default: 'ncu' },
      evidence: { type: 'string', default: 'validate/evidence' },
    },
  });
  const [what, first, second, ...others] = positionals;
  const { evidence } = values;
  const plan = readPlan(evidence);
  if (others.length > 0) throw new SimError('invalid-input', USAGE);
  if (what === 'prepare' && first !== undefined && second === undefined)
    await prepareSets(plan, first, listOf(values.sets) ?? Object.keys(plan.sets), say);
  else if (what === 'measure' && first !== undefined && second !== undefined)
    return await measureParts(plan, first, second, listOf(values.parts) ?? partsOf(plan, first), say);
  else if (what === 'count' && first !== undefined && second !== undefined)
    await countMachine(plan, first, second, { profiler: values.ncu, date: today() }, say);
  else if (what === 'take' && first !== undefined)
    show(await takeMachine(plan, evidence, first, second ?? null, say));
  else if (what === 'judge' && first === undefined) {
    show(writeRecords(evidence, plan, say));
    writeJudgedCounters(evidence, plan);
  } else throw new SimError('invalid-input', USAGE);
  return true;
};

// Ending takes what is being measured along.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  if (!(await run())) process.exitCode = 1;
} catch (error) {
  const { code = '' } = error as { readonly code?: string };
  if (!(error instanceof SimError) && !code.startsWith('ERR_PARSE_ARGS')) throw error;
  say(`record: ${(error as Error).message}`);
  process.exitCode = 2;
}
