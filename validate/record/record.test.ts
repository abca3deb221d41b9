/** Recording from the plan to the evidence, on the processor and small; and what happens where a piece is missing. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from '../../test/scan.ts';
import { readRecords } from '../policies/evidence.ts';
import { readValidationSamples, writeValidationSamples } from '../policies/samples.ts';
import { readSamples, writeSamples } from '../samples.ts';
import { measureParts, partsOf } from './measure.ts';
import { microbenchFile, parsePlan, readPlan, samplesFile } from './plan.ts';
import { prepareSets } from './prepare.ts';
import { takeMachine } from './take.ts';

const scratch = mkdtempSync(join(tmpdir(), 'kvtier-record-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

const shipped = join(root, 'validate/evidence');
const small = '--synthetic smollm2-135m --layers-limit 1 --policies full --contexts';
const plan = parsePlan(
  {
    machines: {
      xeon: {
        restarts: 1,
        restartSeconds: 5,
        calibrate: '--backend cpu',
        validate: '--backend cpu --rounds 1 --repeats 1',
      },
    },
    sets: {
      processor: {
        files: {
          short: { prepare: [`${small} 64`], seconds: 60 },
          longer: { prepare: [`${small} 80`, `${small} 96`], seconds: 60 },
        },
      },
    },
    records: [{ name: 'xeon', title: 'small', machine: 'xeon', set: 'processor' }],
  },
  'plan.json',
);

const heard: string[] = [];
const say = (line: string): void => void heard.push(line);

/** A copy of the shipped evidence. */
const evidenceIn = (name: string): string => {
  const folder = join(scratch, name);
  cpSync(shipped, folder, { recursive: true });
  return folder;
};

describe('the plan', () => {
  it('that ships names every record, and each has been measured', () => {
    expect(readRecords(shipped).map(({ name, title }) => ({ name, title }))).toEqual(
      readPlan(shipped).records.map(({ name, title }) => ({ name, title })),
    );
    expect(partsOf(readPlan(shipped), 'h200')).toEqual(['calibration', 'validation', 'floors']);
  });

  it('is refused with the field that is wrong', () => {
    const without = { machines: {}, sets: {}, records: [{ name: 'a', title: '', machine: 'b', set: 'c' }] };
    expect(() => parsePlan(without, 'plan.json')).toThrow('set c: expected one of');
    expect(() => parsePlan({ ...without, records: [{ name: '../a' }] }, 'plan.json')).toThrow(
      'small letters',
    );
    expect(() => partsOf(plan, 'h300')).toThrow('machine h300: expected one of xeon');
  });
});

describe('a recording', () => {
  const folder = join(scratch, 'recording');

  it('is prepared, measured in pieces and goes on where it was ended', async () => {
    await expect(measureParts(plan, 'xeon', folder, ['processor'], say)).rejects.toThrow('record prepare');
    await prepareSets(plan, folder, ['processor'], say);
    expect(await measureParts(plan, 'xeon', folder, ['processor'], say)).toBe(true);
    const files = readdirSync(folder).sort();
    expect(files.filter((name) => name.startsWith('xeon.'))).toEqual([
      'xeon.processor.longer.samples.json.gz',
      'xeon.processor.short.samples.json.gz',
    ]);
    heard.length = 0;
    await prepareSets(plan, folder, ['processor'], say);
    await measureParts(plan, 'xeon', folder, ['processor'], say);
    expect(heard.filter((line) => line.endsWith('is kept'))).toHaveLength(4);
    expect(readdirSync(folder).sort()).toEqual(files);
  }, 300_000);

  it('becomes evidence whole: joined, fitted and judged', async () => {
    const evidence = evidenceIn('taken');
    const microbench = join(evidence, microbenchFile('xeon'));
    const { sites, ...rest } = readSamples(microbench);
    // Of a single restart: intervals of several would take a minute.
    const first = sites.map(({ restartNs, samplesNs, ...site }) => ({
      ...site,
      restartNs: restartNs.slice(0, 1),
      samplesNs: samplesNs.slice(0, 1),
    }));
    writeSamples(microbench, { ...rest, sites: first });
    await takeMachine(plan, evidence, 'xeon', folder, say);
    const { cases } = readValidationSamples(join(evidence, samplesFile('xeon', 'processor')));
    expect(cases.map(({ context }) => context)).toEqual([64, 80, 96]);
    expect(readRecords(evidence).map(({ name, title }) => [name, title])).toEqual([['xeon', 'small']]);
    // What no record of this plan names is gone.
    expect(readdirSync(evidence).sort()).toEqual([
      'plan.json',
      'records.json',
      'xeon.microbench.json.gz',
      'xeon.processor.json.gz',
      'xeon.profile.json',
      'xeon.stack.json',
    ]);
  }, 300_000);

  it('with a piece that is missing or wrong changes nothing', async () => {
    const evidence = evidenceIn('kept');
    const before = readFileSync(join(evidence, 'records.json'), 'utf8');
    const piece = join(folder, 'xeon.processor.longer.samples.json.gz');
    const samples = readValidationSamples(piece);
    writeFileSync(piece, 'half of a fi');
    await expect(takeMachine(plan, evidence, 'xeon', folder, say)).rejects.toThrow(
      'expected validation samples',
    );
    rmSync(piece);
    await expect(takeMachine(plan, evidence, 'xeon', folder, say)).rejects.toThrow('no such file');
    writeValidationSamples(piece, samples);
    expect(readFileSync(join(evidence, 'records.json'), 'utf8')).toBe(before);
    expect(readdirSync(scratch).filter((name) => name.startsWith('kept'))).toEqual(['kept']);
  });
});
