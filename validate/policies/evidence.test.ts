/** The model does not get worse on recorded measurements of real machines. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from '../../test/scan.ts';
import { countersFile } from '../record/plan.ts';
import { JUDGED_COUNTERS_FILE, readJudgedCounters } from '../traffic/judge.ts';
import { judge, judgeMicrobench, readRecords } from './evidence.ts';

const folder = join(root, 'validate/evidence');
const records = readRecords(folder);
/** Rounding of the recorded numbers. */
const SLACK = 2e-4;

describe('shipped evidence', () => {
  it.each(records)(
    '$name is predicted no worse than recorded (else `npm run evidence` says so openly)',
    (record) => {
      const { summary } = judge(folder, record);
      expect(summary.mape).toBeLessThanOrEqual(record.mape + SLACK);
      expect(summary.p95Ape).toBeLessThanOrEqual(record.p95Ape + SLACK);
      expect(Math.abs(summary.bias)).toBeLessThanOrEqual(Math.abs(record.bias) + SLACK);
      expect(summary.kendallTau ?? 1).toBeGreaterThanOrEqual((record.kendallTau ?? 0) - SLACK);
    },
  );

  it.each(records.filter(({ microbench }) => microbench !== undefined))(
    '$name fits its microbenchmarks no worse than recorded',
    (record) => {
      expect(judgeMicrobench(folder, record)).toBeLessThanOrEqual((record.microbenchMape ?? 0) + SLACK);
    },
  );

  it('has no file that no record names', () => {
    const named = new Set(
      records.flatMap(({ samples, hardware, stack, microbench = '' }) => [
        samples,
        hardware,
        stack,
        microbench,
      ]),
    );
    for (const { machine } of readJudgedCounters(folder)) named.add(countersFile(machine));
    const files = readdirSync(folder).filter(
      (name) => !['plan.json', 'records.json', JUDGED_COUNTERS_FILE].includes(name),
    );
    expect(files.filter((name) => !named.has(name))).toEqual([]);
    for (const { samples } of records) expect(existsSync(join(folder, samples))).toBe(true);
  });
});
