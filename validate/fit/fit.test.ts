/** Fits and statistics of validation: known minima, hand-counted rankings, samples that survive a round trip. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { medianOf, readSamples, type Samples, writeSamples } from '../samples.ts';
import { minimise } from './nelder-mead.ts';
import { kendallTau, residualsOf, signAccuracy } from './residuals.ts';

describe('minimise', () => {
  it('finds the bottom of a curved valley', () => {
    const rosenbrock = ([x, y]: readonly number[]): number => (1 - x) ** 2 + 100 * (y - x * x) ** 2;
    const [x, y] = minimise(rosenbrock, [-1.2, 1], 0.5, 1e-10);
    expect(x).toBeCloseTo(1, 3);
    expect(y).toBeCloseTo(1, 3);
  });

  it('recovers start and rate of a copy from times with an outlier', () => {
    const sizes = [1, 4, 16, 64, 256, 1024, 4096];
    const times = sizes.map((size, at) => (10 + size / 50) * (at === 3 ? 1.5 : 1));
    const huber = (r: number): number => (Math.abs(r) < 0.05 ? r * r : 0.05 * (2 * Math.abs(r) - 0.05));
    const loss = ([start, rate]: readonly number[]): number =>
      sizes.reduce(
        (sum, size, at) => sum + huber(Math.log((Math.exp(start) + size / Math.exp(rate)) / times[at])),
        0,
      );
    const [start, rate] = minimise(loss, [Math.log(1), Math.log(10)]).map(Math.exp);
    expect(start).toBeGreaterThan(9.5);
    expect(start).toBeLessThan(10.5);
    expect(Math.abs(rate / 50 - 1)).toBeLessThan(0.02);
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
