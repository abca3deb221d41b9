/** Block mass: by hand, against dense attention, and round trips through Parquet and safetensors; every bad table refused. */
import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import { createRandomTrace } from '../../../sim/trace/random-trace.ts';
import { TraceError } from '../../error.ts';
import { memorySource } from '../byte-source.ts';
import type { AttentionMetadata } from '../metadata.ts';
import { openAttentionTrace } from '../reader.ts';
import { writeSafetensors } from '../safetensors-writer.ts';
import { attentionTensors, encodeAttentionMetadata } from '../writer.ts';
import { type BlockMassOptions, blockMassOf, type HeadMass } from './block-mass.ts';
import { encodeMassMetadata, massColumns, massMetadata } from './columns.ts';
import { createMassTrace } from './mass-trace.ts';
import { readMassParquet } from './parquet-reader.ts';
import { massParquet } from './parquet-writer.ts';

const metadata: AttentionMetadata = {
  format: 'kvtier.attention/1',
  model: {
    name: 'toy',
    source: '',
    architecture: '',
    layers: 3,
    heads: 4,
    kvHeads: 2,
    headDim: 4,
    slidingLayers: [],
  },
  promptTokens: 21,
  steps: 3,
  recordedLayers: [0, 2],
  fields: ['k', 'q'],
  provenance: { tool: 'a test' },
  text: {},
};
const { layers, heads, kvHeads, headDim } = metadata.model;
const shape = { layers, heads, kvHeads, headDim, promptTokens: 21, steps: 3, recordedLayers: [0, 2] };
const trace = createRandomTrace({ shape, seed: 1 });
const options: BlockMassOptions = { blockTokens: 8, layers: [0, 2], detail: true, windowOf: () => null };
const massOnly = massMetadata(metadata, [0, 2], 8);

const join = (chunks: Iterable<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat([...chunks]));
const parquetOf = (detail: boolean): Uint8Array =>
  join(massParquet(blockMassOf(trace, { ...options, detail }), massOnly));
const read = (bytes: Uint8Array, more = {}) => readMassParquet(memorySource(bytes), 'toy.parquet', more);

/** Softmax of one head in float64. */
const attention = (layer: number, step: number, head: number, first: number): number[] => {
  const q = trace.queries(layer, step, head >> 1).subarray((head & 1) * headDim);
  const k = trace.keys(layer, head >> 1);
  const weights = Array.from({ length: 21 + step + 1 }, (_, token) => {
    let logit = 0;
    for (let c = 0; c < headDim; c++) logit += q[c] * k[token * headDim + c];
    return token < first ? 0 : Math.exp(logit / Math.sqrt(headDim));
  });
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
};

describe('block mass', () => {
  it.each([null, 10])(
    'is the mean attention of the query heads, summed by block (window %s)',
    (windowTokens) => {
      const computed = [...blockMassOf(trace, { ...options, windowOf: () => windowTokens })];
      expect(computed.map(({ layer, kvHead }) => [layer, kvHead])).toEqual([
        [0, 0],
        [0, 1],
        [2, 0],
        [2, 1],
      ]);
      for (const { layer, kvHead, mass, detail } of computed) {
        expect(mass).toHaveLength(3 * 3);
        for (let step = 0; step < 3; step++) {
          const first = windowTokens === null ? 0 : 21 + step + 1 - windowTokens;
          const [one, other] = [0, 1].map((g) => attention(layer, step, 2 * kvHead + g, first));
          const row = one.map((p, token) => (p + other[token]) / 2);
          for (let block = 0; block < 3; block++) {
            const inside = row.slice(8 * block, 8 * block + 8);
            const sum = inside.reduce((a, b) => a + b, 0);
            const at = step * 3 + block;
            expect(mass[at]).toBeCloseTo(sum, 5);
            if (sum === 0) continue;
            expect(detail?.top1Share[at]).toBeCloseTo(Math.max(...inside) / sum, 5);
            const entropy = inside.reduce((a, p) => (p === 0 ? a : a - (p / sum) * Math.log2(p / sum)), 0);
            expect(detail?.entropy[at]).toBeCloseTo(entropy, 4);
          }
        }
      }
    },
  );
});

describe('a round trip', () => {
  it('through Parquet gives every number back, detail or not', async () => {
    for (const detail of [false, true]) {
      const table = await read(parquetOf(detail));
      expect(table.metadata).toEqual({ ...massOnly });
      for (const head of blockMassOf(trace, { ...options, detail: false })) {
        const dense = table.mass.get(head.layer) ?? new Float32Array();
        const got = [0, 1, 2].flatMap((step) => [
          ...dense.subarray((step * 2 + head.kvHead) * 3).subarray(0, 3),
        ]);
        expect(got).toEqual([...head.mass]);
      }
    }
    expect(parquetOf(true)).toEqual(parquetOf(true));
    expect(parquetOf(true).length).toBeGreaterThan(parquetOf(false).length);
  });

  it('Parquet, safetensors, Parquet gives the same bytes', async () => {
    const parquet = parquetOf(false);
    const mass = createMassTrace('toy', await read(parquet));
    const file = writeSafetensors(attentionTensors(mass, massOnly, 'F32'), encodeAttentionMetadata(massOnly));
    const opened = openAttentionTrace(memorySource(file), 'toy.safetensors');
    expect(opened.has('mass', 2)).toBe(true);
    expect(opened.has('k', 2)).toBe(false);
    expect(opened.blockMass(2)).toEqual(mass.blockMass(2));
    expect(join(massParquet(blockMassOf(opened, { ...options, detail: false }), massOnly))).toEqual(parquet);
  });

  it('merges recorded blocks into larger ones, and refuses others and what mass can not say', async () => {
    const mass = createMassTrace('toy', await read(parquetOf(false)));
    const coarse = (blockTokens: number, detail = false): HeadMass[] => [
      ...blockMassOf(mass, { ...options, blockTokens, detail }),
    ];
    expect(
      coarse(24)
        .flatMap(({ mass: m }) => [...m])
        .every((sum) => Math.abs(sum - 1) < 1e-5),
    ).toBe(true);
    expect(() => coarse(12)).toThrow('expected a multiple of the 8');
    expect(() => coarse(8, true)).toThrow('need the fields k and q');
    expect(() => mass.keys(0, 0)).toThrow('field k: not recorded');
    expect(mass.digest).toMatch(/^(sha256:)?[0-9a-f]{64}$/);
  });
});

/** A table of rows [step, layer, kvHead, block, mass]. */
const tableOf = (
  rows: readonly (readonly number[])[],
  json: string | null = encodeMassMetadata(massOnly),
  wide = false,
) =>
  new Uint8Array(
    parquetWriteBuffer({
      columnData: ['step', 'layer', 'kvHead', 'block', 'mass'].map((name, at) => ({
        name,
        data:
          at === 4
            ? rows.map((row) => row[at])
            : wide
              ? rows.map((row) => BigInt(row[at]))
              : Int32Array.from(rows, (row) => row[at]),
        type: at === 4 ? ('DOUBLE' as const) : wide ? ('INT64' as const) : ('INT32' as const),
      })),
      ...(json === null ? {} : { kvMetadata: [{ key: 'kvtier', value: json }] }),
    }),
  );

describe('tables of others', () => {
  it('may have 64-bit columns, any order, and only the blocks that matter', async () => {
    const rows = [
      [2, 2, 1, 0, 0.75],
      [0, 0, 0, 2, 0.5],
    ];
    const { mass } = await read(tableOf(rows, undefined, true));
    expect(mass.get(0)?.[2]).toBe(0.5);
    expect(mass.get(2)?.[(2 * 2 + 1) * 3]).toBe(0.75);
    expect([...(mass.get(0) ?? [])].reduce((a, b) => a + b)).toBe(0.5);
  });

  it('without metadata are described from what their rows reach to', async () => {
    const bytes = tableOf(
      [
        [2, 2, 1, 2, 1],
        [0, 0, 0, 0, 1],
      ],
      null,
    );
    await expect(read(bytes)).rejects.toThrow('key-value metadata "kvtier": expected');
    const { metadata: described } = await read(bytes, {
      describe: (extent: object) => {
        expect(extent).toEqual({ layers: [0, 2], steps: 3, kvHeads: 2, blocks: 3 });
        return massOnly;
      },
    });
    expect(described).toEqual(massOnly);
  });

  it('in a compression that is not known say which ones are', async () => {
    const columnData = massColumns.map((name) => ({ name, data: Int32Array.of(0), type: 'INT32' as const }));
    const bytes = parquetWriteBuffer({ columnData, codec: 'LZO', compressors: { LZO: (input) => input } });
    await expect(read(new Uint8Array(bytes), { describe: () => massOnly })).rejects.toThrow(
      'toy.parquet: compression LZO: expected Snappy, gzip, Brotli or none',
    );
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    [
      'no Parquet',
      () => new TextEncoder().encode('step,layer,kvHead,block,mass\n'),
      /expected a Parquet table/,
    ],
    ['nothing', () => new Uint8Array(3), /found 3 bytes/],
    ['a cut file', () => parquetOf(false).subarray(0, 400), /expected a Parquet table/],
    [
      'another table',
      () => new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'step', data: [1] }] })),
      /column "layer": expected among step/,
    ],
    [
      'a step too far',
      () => tableOf([[3, 0, 0, 0, 1]]),
      /column "step": row 0: metadata says below 3, found 3/,
    ],
    [
      'an unknown layer',
      () => tableOf([[0, 1, 0, 0, 1]]),
      /column "layer": row 0: metadata says 0, 2, found 1/,
    ],
    [
      'a negative block',
      () => tableOf([[0, 0, 0, -1, 1]]),
      /column "block": row 0: expected an integer from 0, found -1/,
    ],
    [
      'a row twice',
      () =>
        tableOf([
          [0, 0, 0, 0, 0.1],
          [0, 0, 0, 0, 0.1],
        ]),
      /row 1: step 0, layer 0, KV head 0, block 0: expected once/,
    ],
    [
      'mass above 1',
      () => tableOf([[0, 0, 0, 0, 1.5]]),
      /column "mass": row 0: expected a number from 0 to 1, found 1.5/,
    ],
    ['mass that is no number', () => tableOf([[0, 0, 0, 0, Number.NaN]]), /found NaN/],
    [
      'more than all attention',
      () =>
        tableOf([
          [1, 0, 1, 0, 0.9],
          [1, 0, 1, 1, 0.9],
        ]),
      /step 1, layer 0, KV head 1: expected mass of at most 1 in all blocks, found 1.800/,
    ],
    [
      'metadata of another format',
      () => tableOf([[0, 0, 0, 0, 1]], '{"format":"x"}'),
      /expected "kvtier.attention-mass\/1"/,
    ],
    ['metadata that is no JSON', () => tableOf([[0, 0, 0, 0, 1]], 'x'), /expected valid JSON/],
    [
      'metadata of keys',
      () => tableOf([[0, 0, 0, 0, 1]], encodeMassMetadata(metadata)),
      /expected mass alone/,
    ],
    [
      'metadata of a giant',
      () => tableOf([[0, 0, 0, 0, 1]], encodeMassMetadata({ ...massOnly, steps: 1e9 })),
      /expected at most 2\^29 cells/,
    ],
  ])('are refused: %s', async (_, bytes, message) => {
    const trouble = await read(bytes()).catch((error: unknown) => error);
    expect(trouble).toBeInstanceOf(TraceError);
    expect((trouble as TraceError).message).toMatch(message);
    expect((trouble as TraceError).message).toMatch(/^toy\.parquet/);
    expect((trouble as TraceError).message).not.toContain('\n');
  });
});
