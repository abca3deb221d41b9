/** Fits and statistics of validation: known minima, hand-counted rankings, samples that survive a round trip. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { medianOf, readSamples, type Samples, writeSamples } from '../samples.ts';
import { regress } from './least-squares.ts';
import { kendallTau, residualsOf, signAccuracy } from './residuals.ts';

describe('regress', () => {
  const sizes = [1, 4, 16, 64, 256, 1024, 4096, 16_384];
  const recovered = (times: readonly number[], start: readonly number[]) =>
    regress({
      start: start.map(Math.log),
      most: start.map(() => Infinity),
      weights: times.map(() => 1),
      leastSpread: 0.01,
      residuals: ([a, rate]) =>
        Float64Array.from(sizes, (size, i) => Math.log((Math.exp(a) + size / Math.exp(rate)) / times[i])),
    }).map(Math.exp);

  it('recovers start and rate from far away, an outlier notwithstanding', () => {
    const times = sizes.map((size, at) => (10 + size / 50) * (at === 3 ? 3 : 1));
    const [start, rate] = recovered(times, [0.1, 1]);
    expect(Math.abs(start / 10 - 1)).toBeLessThan(0.03);
    expect(Math.abs(rate / 50 - 1)).toBeLessThan(0.03);
  });

  it('keeps to a bound', () => {
    const [rate] = regress({
      start: [0],
      most: [Math.log(20)],
      weights: sizes.map(() => 1),
      leastSpread: 0.01,
      residuals: ([r]) => Float64Array.from(sizes, (size) => Math.log(size / Math.exp(r) / (size / 50))),
    });
    expect(Math.exp(rate)).toBeCloseTo(20);
  });
});

describe('residuals', () => {
  const pairs = [
    { predicted: 110, measured: 100 },
    { predicted: 180, measured: 200 },
    { predicted: 300, measured: 300 },
  ];

  it('are relative to what was measured', () => {
    const { n, mape, medianApe, bias } = residualsOf(pairs);
    expect(n).toBe(3);
    expect(mape).toBeCloseTo(0.2 / 3);
    expect(medianApe).toBeCloseTo(0.1);
    expect(bias).toBeCloseTo(0);
  });

  it('rank by counted pairs', () => {
    expect(kendallTau(pairs)).toBe(1);
    expect(kendallTau([...pairs, { predicted: 50, measured: 400 }])).toBe(0);
    expect(signAccuracy([...pairs, { predicted: 50, measured: 400 }], 0.5)).toBeCloseTo(3 / 5);
  });
});

describe('samples', () => {
  const folder = mkdtempSync(join(tmpdir(), 'samples-'));

  it('are read as they were written, and a broken file is named', () => {
    const samples: Samples = {
      format: 'kvtier.samples/1',
      machine: {
        backend: 'cpu',
        name: 'x',
        driver: '',
        runtime: '',
        units: 2,
        date: '2026-11-22',
        emulated: [],
      },
      senses: [{ mhz: 2000 }],
      sites: [
        { benchmark: 'launch', id: 'a', operations: [], restartNs: [1, 2, 4], samplesNs: [[1], [2], [4]] },
      ],
    };
    const path = join(folder, 'samples.json.gz');
    writeSamples(path, samples);
    expect(readSamples(path)).toEqual(samples);
    writeFileSync(path, '{"format":"kvtier.samples/1"}');
    expect(() => readSamples(path)).toThrow(/samples\.json\.gz: field machine/);
    writeFileSync(path, 'x');
    expect(() => readSamples(path)).toThrow(/expected samples as JSON/);
    rmSync(folder, { recursive: true });
  });

  it('take the middle', () => {
    expect(medianOf([3, 1, 2])).toBe(2);
    expect(medianOf([4, 1, 2, 3])).toBe(2.5);
  });
});
