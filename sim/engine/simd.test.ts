/**
 * The SIMD kernels against plain float64 loops: any size (odd channels, partial tiles, more queries than fit at once),
 * within what float32 sums in tiles may lose.
 */
import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { createRandom } from './random.ts';
import { addWeightedRows, boundsInto, dotRows, exponentiate, largestOf, scaleEntries } from './simd.ts';

const EPSILON = 2 ** -24;

const normals = (count: number, name: string): Float32Array => {
  const out = new Float32Array(count);
  createRandom(42, name).fillNormal(out);
  return out;
};

/** The values that decide a path: lanes of 4, blocks of 16 channels, tiles of up to 4096 rows. */
const sizes = {
  channels: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 80, 128, 576)),
  rowCount: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(511, 512, 513, 1030, 4097)),
  queryCount: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(130)),
};

describe('products of rows with queries', () => {
  test('agree with float64 loops, and write nothing else', () => {
    fc.assert(
      fc.property(fc.record(sizes), fc.nat(3), ({ channels, rowCount, queryCount }, slack) => {
        const rows = normals(rowCount * channels, 'rows');
        const queries = normals(queryCount * channels, 'queries');
        const stride = rowCount + slack;
        const out = new Float32Array(queryCount * stride).fill(7);
        dotRows({ queries, queryCount, rows, rowCount, channels, out, stride, scale: 0.5 });
        for (let q = 0; q < queryCount; q += Math.max(1, queryCount >> 2)) {
          for (let i = 0; i < stride; i++) {
            let sum = 0;
            let size = 0;
            for (let c = 0; c < channels && i < rowCount; c++) {
              const product = queries[q * channels + c] * rows[i * channels + c];
              sum += product;
              size += Math.abs(product);
            }
            const wanted = i < rowCount ? sum / 2 : 7;
            expect(Math.abs(out[q * stride + i] - wanted)).toBeLessThanOrEqual(channels * EPSILON * size);
          }
        }
      }),
      { seed: 42, numRuns: 60 },
    );
  });

  test('too many channels are refused with the number', () => {
    const rows = new Float32Array(5000);
    const job = {
      queries: rows,
      queryCount: 1,
      rows,
      rowCount: 1,
      channels: 5000,
      out: rows,
      stride: 1,
      scale: 1,
    };
    expect(() => dotRows(job)).toThrow(/5000 channels.*at most 4096/);
  });
});

describe('weighted sums of rows', () => {
  const compare = (
    { channels, rowCount, queryCount }: { channels: number; rowCount: number; queryCount: number },
    positionsOf: (rowCount: number) => Int32Array | null,
  ): void => {
    const rows = normals(rowCount * channels, 'rows');
    const stride = rowCount + 1;
    const weights = normals(queryCount * stride, 'weights');
    const positions = positionsOf(rowCount);
    const used = positions ?? Int32Array.from({ length: rowCount }, (_, i) => i);
    const out = new Float64Array(queryCount * channels).fill(3);
    const job = { weights, queryCount, stride, rows, rowCount: used.length, channels, out };
    addWeightedRows(job, positions);
    for (let q = 0; q < queryCount; q += Math.max(1, queryCount >> 2)) {
      for (let c = 0; c < channels; c += Math.max(1, channels >> 3)) {
        let sum = 3;
        let size = 0;
        for (const i of used) {
          const product = weights[q * stride + i] * rows[i * channels + c];
          sum += product;
          size += Math.abs(product);
        }
        const tolerance = Math.min(4096, rowCount + 1) * EPSILON * size + 1e-12;
        expect(Math.abs(out[q * channels + c] - sum)).toBeLessThanOrEqual(tolerance);
      }
    }
  };

  test('over all rows', () => {
    fc.assert(
      fc.property(fc.record(sizes), (size) => compare(size, () => null)),
      { seed: 42, numRuns: 60 },
    );
  });

  test('over listed rows, in runs and alone', () => {
    const listed = fc.array(fc.boolean(), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(fc.record(sizes), listed, (size, pattern) =>
        compare(size, (rowCount) =>
          Int32Array.from(
            Array.from({ length: rowCount }, (_, i) => i).filter((i) => pattern[i % pattern.length]),
          ),
        ),
      ),
      { seed: 42, numRuns: 60 },
    );
  });
});

describe('passes over a row', () => {
  const rowOf = (n: number): Float32Array => normals(n + 2, 'row').map((x) => 20 * x);

  test.each([1, 3, 4, 1000, 65536, 65537, 131075])('largest, exponentials and scaling of %i entries', (n) => {
    const row = rowOf(n);
    const before = row.slice();
    const largest = largestOf(row, n);
    expect(largest).toBe(before.subarray(0, n).reduce((a, b) => Math.max(a, b)));
    const sum = exponentiate(row, n, largest);
    let wanted = 0;
    let worst = 0;
    for (let i = 0; i < n; i++) {
      const truth = Math.exp(before[i] - largest);
      wanted += truth;
      worst = Math.max(worst, truth > 1e-37 ? Math.abs(row[i] / truth - 1) : row[i]);
    }
    expect(worst).toBeLessThan(6e-6);
    expect(Math.abs(sum / wanted - 1)).toBeLessThan(1e-6);
    const grown = row.slice();
    scaleEntries(row, n, 1 / sum);
    for (let i = 0; i < n; i += 97) expect(row[i]).toBe(Math.fround(grown[i] * Math.fround(1 / sum)));
    expect(row.subarray(n)).toEqual(before.subarray(n));
  });

  test('the exponential is exact at 0, 0 far below and finite above', () => {
    const row = Float32Array.of(0, -1e30, Number.NEGATIVE_INFINITY, 1e9, 1, -86.9);
    exponentiate(row, 6, 0);
    expect([...row.subarray(0, 3)]).toEqual([1, 0, 0]);
    expect(row[3] / Math.exp(88)).toBeCloseTo(1, 6);
    expect(row[4] / Math.E - 1).toBeLessThan(2e-7);
    expect(row[5]).toBeGreaterThan(0);
  });
});

test('channel bounds of groups, whole, partial and larger than a tile', () => {
  fc.assert(
    fc.property(
      fc.record({ channels: sizes.channels, groupRows: fc.constantFrom(1, 3, 16, 5000) }),
      fc.integer({ min: 1, max: 9000 }),
      ({ channels, groupRows }, wantedRows) => {
        const rowCount = Math.min(wantedRows, Math.ceil(200_000 / channels));
        const rows = normals(rowCount * channels, 'rows');
        const groups = Math.ceil(rowCount / groupRows);
        const out = new Float32Array(groups * 2 * channels);
        const middle = groupRows * (groups >> 1);
        boundsInto(rows, channels, groupRows, 0, middle, out);
        boundsInto(rows, channels, groupRows, middle, rowCount, out);
        const group = groups - 1;
        for (const c of [0, channels - 1]) {
          const column = Array.from(
            { length: rowCount - group * groupRows },
            (_, i) => rows[(group * groupRows + i) * channels + c],
          );
          expect(out[group * 2 * channels + c]).toBe(column.reduce((a, b) => Math.max(a, b)));
          expect(out[(group * 2 + 1) * channels + c]).toBe(column.reduce((a, b) => Math.min(a, b)));
        }
      },
    ),
    { seed: 42, numRuns: 40 },
  );
});

test('the same bits on every engine', () => {
  const rows = normals(1000 * 80, 'rows');
  const queries = normals(3 * 80, 'queries');
  const out = new Float32Array(3 * 1000);
  dotRows({ queries, queryCount: 3, rows, rowCount: 1000, channels: 80, out, stride: 1000, scale: 1 });
  for (let q = 0; q < 3; q++) exponentiate(out.subarray(q * 1000, (q + 1) * 1000), 1000, 30);
  const sums = new Float64Array(3 * 80);
  const job = { weights: out, queryCount: 3, stride: 1000, rows, rowCount: 1000, channels: 80, out: sums };
  addWeightedRows(job);
  const words = new Uint32Array(out.buffer);
  const halves = new Uint32Array(sums.buffer);
  const mix = (of: Uint32Array): number =>
    of.reduce((hash, word) => Math.imul(hash ^ word, 0x01000193) >>> 0, 0x811c9dc5);
  expect([mix(words), mix(halves)]).toEqual([4040228159, 3941159845]);
});

test('without WebAssembly SIMD one clear error, no other numbers', async () => {
  vi.resetModules();
  vi.stubGlobal('WebAssembly', undefined);
  const fresh = await import('./simd.ts');
  expect(() => fresh.largestOf(Float32Array.of(1), 1)).toThrow(/WebAssembly SIMD is missing/);
  vi.unstubAllGlobals();
  expect(fresh.largestOf(Float32Array.of(1, 2), 2)).toBe(2);
});
