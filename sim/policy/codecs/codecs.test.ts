/** What every codec of the catalog promises: bytes as published, decoding within its step, no look into the future. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../../engine/random.ts';
import { type Codec, codedBytesPerToken } from '../codec.ts';
import { quantiseRows, roundToHalf } from '../group-quantiser.ts';
import { calibrateKeys, calibrateValues, nuqRows, placeLevels } from '../nuq.ts';
import { catalog } from './catalog.generated.ts';

const D = 64;
const TOKENS = 256;

/** Gaussian rows with one large channel and a few large elements, as keys have. */
const rowsOf = (name: string, tokens = TOKENS): Float32Array => {
  const random = createRandom(42, name);
  return Float32Array.from({ length: tokens * D }, (_, i) => {
    const channel = i % D === 7 ? 12 : 0;
    return random.normal() * (i % 997 === 3 ? 20 : 1) + channel;
  });
};
const keys = rowsOf('keys');
const values = rowsOf('values');

const decoded = (codec: Codec, from: number, tokens: number, k = keys, v = values) => {
  const block = codec.encode(k, v, D, from, tokens);
  const out = { keys: new Float32Array(tokens * D), values: new Float32Array(tokens * D) };
  block.decodeKeys(out.keys);
  block.decodeValues(out.values);
  return out;
};

const relativeError = (found: Float32Array, truth: Float32Array, from: number): number => {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < found.length; i++) {
    const wanted = truth[from * D + i];
    error += (found[i] - wanted) ** 2;
    norm += wanted * wanted;
  }
  return Math.sqrt(error / norm);
};

test.each([
  // KIVI: bits / 8 · 256 + scale and minimum in halves per 32 elements (arXiv 2402.02750, mem_spd_test.py).
  ['int2', 32, 96],
  ['int4', 32, 160],
  ['int8', 32, 288],
  ['int2-g64', 64, 80],
  ['int4-g64', 64, 144],
  ['int8-g64', 64, 272],
  // FlexGen: 4-bit groups of 64.
  ['int4-token', 32, 144],
  // KVQuant: 4.32 bits an element, and the range of a value token.
  ['nuq4', 1000, 138.24 + 4],
  ['nuq3', 1000, 106.24 + 4],
  ['nuq2', 1000, 74.24 + 4],
  // ParisKV's rerank code: 64 B of codes and 16 bf16 weights a row.
  ['rotated4', 32, 192],
  ['k8v4', 32, 192 + 8 + 4],
  // 16 centroids per two channels; half of the directions in halves; 13 of 128 tokens raw, rank 32 in 4 bits.
  ['pq2', 128, 64],
  ['low-rank', 128, 256],
  ['residual4', 128, (13 * 512 + 115 * (2 * 16 + 2 * 4 + 2 * 4)) / 128],
] as const)('%s takes the published bytes per token at 128 channels', (name, blockTokens, wanted) => {
  expect(codedBytesPerToken(catalog[name], 128, blockTokens)).toBeCloseTo(wanted, 9);
});

describe.each(Object.entries(catalog))('%s', (_, codec: Codec) => {
  const from = 64;
  const tokens = 128;

  test('decodes close to what was coded, and zeros to zeros', () => {
    const { keys: k, values: v } = decoded(codec, from, tokens);
    // Each bit halves the step. Gaussian rows have no structure to save: what keeps a share of their directions loses
    // the rest of their squared length.
    const directions: Record<string, number> = { 'low-rank': 0.5, residual4: 0.25 };
    const share = directions[codec.name];
    const bound = (bytes: number): number =>
      share === undefined ? 4 / 2 ** Math.floor(Math.max(2, (8 * bytes) / D)) : Math.sqrt(1 - share) + 0.05;
    expect(relativeError(k, keys, from)).toBeLessThan(bound(codec.kBytesPerToken(D)));
    expect(relativeError(v, values, from)).toBeLessThan(bound(codec.vBytesPerToken(D)));
    expect(relativeError(k, keys, from)).toBeGreaterThan(0);
    const zeros = new Float32Array(TOKENS * D);
    expect(new Set(decoded(codec, from, tokens, zeros, zeros).keys)).toEqual(new Set([0]));
  });

  test('is deterministic and blind to later rows', () => {
    const changed = (rows: Float32Array): Float32Array =>
      rows.map((x, i) => (i >= (from + tokens) * D ? 3 - x : x));
    expect(decoded(codec, from, tokens, changed(keys), changed(values))).toEqual(
      decoded(codec, from, tokens),
    );
  });
});

test('uniform codes are off by half a step at most, in any grouping', () => {
  const grouping = fc.record({
    bits: fc.integer({ min: 2, max: 8 }),
    groupTokens: fc.constantFrom(1, 5, 32, Infinity),
    groupChannels: fc.constantFrom(1, 3, 32, Infinity),
    symmetric: fc.boolean(),
  });
  const elements = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 60, maxLength: 60 });
  fc.assert(
    fc.property(grouping, elements, (g, list) => {
      const rows = Float32Array.from(list, (x) => x / 7);
      const [channels, tokens] = [6, 10];
      const out = new Float32Array(60);
      quantiseRows(rows, channels, 0, tokens, g).decode(out);
      for (let i = 0; i < 60; i++) {
        const inGroup = [...rows].filter((_, j) => {
          const same = (a: number, b: number, size: number): boolean =>
            size === Infinity || Math.floor(a / size) === Math.floor(b / size);
          const [t, u] = [Math.floor(i / channels), Math.floor(j / channels)];
          return same(t, u, g.groupTokens) && same(i % channels, j % channels, g.groupChannels);
        });
        const peak = Math.max(...inGroup.map(Math.abs));
        const range = g.symmetric ? 2 * peak : Math.max(...inGroup) - Math.min(...inGroup);
        const steps = g.symmetric ? 2 ** g.bits - 2 : 2 ** g.bits - 1;
        // Half a step, and what rounding scale and offset to halves can add.
        const bound = (0.5 * range) / steps + (range + peak) * 2 ** -10 + 1e-6;
        if (Math.abs(out[i] - rows[i]) > bound) return false;
      }
      return true;
    }),
    { seed: 42, numRuns: 60 },
  );
});

test('rounding to half keeps 11 significant bits', () => {
  expect(roundToHalf(1 + 2 ** -11)).toBe(1);
  expect(roundToHalf(1 + 3 * 2 ** -11)).toBe(1 + 2 ** -9);
  expect(roundToHalf(-0.1)).toBe(-0.0999755859375);
  expect(roundToHalf(0)).toBe(0);
});

describe('non-uniform levels', () => {
  const config = { bits: 3, outlierShare: 0.02 };
  const tokens = 250;

  test('k-means finds what is there', () => {
    const counts = new Float64Array(100);
    for (const bin of [10, 30, 70, 90]) counts[bin] = bin;
    expect([...placeLevels(counts, 4)]).toEqual([10, 30, 70, 90].map((bin) => (2 * bin + 1) / 100 - 1));
  });

  test.each([
    ['keys', keys, calibrateKeys],
    ['values', values, calibrateValues],
  ] as const)('%s: outliers are exact and few, all else takes its nearest level', (_, rows, calibrate) => {
    const table = calibrate(rows, D, tokens, config);
    const coded = nuqRows(rows, D, 0, tokens, table);
    const out = new Float32Array(tokens * D);
    coded.decode(out);
    const share = coded.outliers / (tokens * D);
    expect(share).toBeGreaterThan(0.5 * config.outlierShare);
    expect(share).toBeLessThan(1.1 * config.outlierShare);
    let exact = 0;
    for (let t = 0; t < tokens; t += 7) {
      for (let c = 0; c < D; c++) {
        const x = rows[t * D + c];
        const found = out[t * D + c];
        if (Math.abs(found - x) <= Math.abs(x) * 2 ** -11) exact++;
        else if (table.middle !== null && table.halfWidth !== null) {
          const nearest = Math.min(
            ...[...table.levels].map((l) =>
              Math.abs((table.middle?.[c] ?? 0) + (table.halfWidth?.[c] ?? 0) * l - x),
            ),
          );
          expect(Math.abs(found - x)).toBeCloseTo(nearest, 5);
        }
      }
    }
    expect(exact).toBeGreaterThan(0);
  });

  test('beats uniform levels of the same bits where there are outliers', () => {
    const uniform = relativeError(decoded(catalog.int4, 0, TOKENS).values, values, 0);
    expect(relativeError(decoded(catalog.nuq4, 0, TOKENS).values, values, 0)).toBeLessThan(uniform);
  });
});

test('estimates over rotated codes are unbiased', () => {
  const { keys: k } = decoded(catalog.rotated4, 0, TOKENS);
  let found = 0;
  let wanted = 0;
  for (let i = 0; i < k.length; i++) {
    found += k[i] * keys[i];
    wanted += keys[i] * keys[i];
  }
  expect(found / wanted).toBeCloseTo(1, 3);
});
