/** The attention format: float codecs, writer to reader round trips, and metadata that tensors contradict. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { TraceError } from '../error.ts';
import { memorySource } from './byte-source.ts';
import { decodeBfloat16, decodeFloat16, encodeFloat16 } from './half.ts';
import { ArrayCache } from './lru.ts';
import type { AttentionMetadata } from './metadata.ts';
import { openAttentionFile, writeSafetensorsFile } from './node-file.ts';
import { openAttentionTrace, type RecordedTrace } from './reader.ts';
import type { Dtype } from './safetensors.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors-writer.ts';
import { attentionTensors, encodeAttentionMetadata } from './writer.ts';

const metadata: AttentionMetadata = {
  format: 'kvtier.attention/1',
  model: {
    name: 'toy',
    source: '',
    architecture: '',
    layers: 3,
    heads: 4,
    kvHeads: 2,
    headDim: 2,
    slidingLayers: [],
  },
  promptTokens: 3,
  steps: 2,
  recordedLayers: [0, 2],
  fields: ['k', 'q', 'qprompt'],
  promptWindowTokens: 1,
  provenance: {},
  text: {},
};
const shapes = { k: [2, 5, 2], q: [2, 4, 2], qprompt: [1, 4, 2] };

const floats = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const counting = (shape: readonly number[], from: number): number[] =>
  Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => from + i / 4);
const tensorOf = (
  name: string,
  dtype: Dtype,
  shape: readonly number[],
  bytes: Uint8Array,
): TensorToWrite => ({
  name,
  dtype,
  shape,
  chunks: () => [bytes],
});
const soundTensors = (): TensorToWrite[] =>
  Object.entries(shapes).flatMap(([field, shape]) =>
    [0, 2].map((layer) => tensorOf(`${field}.${layer}`, 'F32', shape, floats(counting(shape, layer)))),
  );
const openWith = (tensors: readonly TensorToWrite[], json: unknown = metadata): RecordedTrace =>
  openAttentionTrace(
    memorySource(writeSafetensors(tensors, { kvtier: JSON.stringify(json) })),
    'toy.safetensors',
  );

const directory = mkdtempSync(join(tmpdir(), 'kvtier-reader-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('half precision', () => {
  it('decodes every half and encodes it back to the same bits', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const decoded = new Float32Array(65536);
    decodeFloat16(new Uint8Array(bits.buffer), decoded);
    expect([decoded[0x3c00], decoded[0xc000], decoded[1], decoded[0x7bff], decoded[0x7c00]]).toEqual([
      1,
      -2,
      2 ** -24,
      65504,
      Number.POSITIVE_INFINITY,
    ]);
    const back = new Uint16Array(65536);
    encodeFloat16(decoded, new Uint8Array(back.buffer));
    for (let i = 0; i < 65536; i++) if (!Number.isNaN(decoded[i])) expect(back[i]).toBe(i);
    expect(decoded.filter((x) => Number.isNaN(x))).toHaveLength(2 * 1023);
  });

  it('rounds to the nearest half, ties to even', () => {
    const all = new Float32Array(0x7c00);
    decodeFloat16(new Uint8Array(Uint16Array.from(all, (_, i) => i).buffer), all);
    fc.assert(
      fc.property(fc.nat(0x7c00 - 2), fc.double({ min: 0, max: 1, noNaN: true }), (i, share) => {
        const x = Math.fround(all[i] + (all[i + 1] - all[i]) * share);
        const bytes = new Uint8Array(2);
        encodeFloat16(Float32Array.of(-x), bytes);
        const got = (bytes[0] | (bytes[1] << 8)) & 0x7fff;
        const low = x - all[i];
        const high = all[i + 1] - x;
        expect(got).toBe(low < high || (low === high && i % 2 === 0) ? i : i + 1);
      }),
      { seed: 42, numRuns: 2000 },
    );
    const bytes = new Uint8Array(4);
    encodeFloat16(Float32Array.of(65519, 65520), bytes);
    expect([...bytes]).toEqual([0xff, 0x7b, 0, 0x7c]);
  });

  it('decodes bfloat16 as the upper half of a float', () => {
    const dst = new Float32Array(3);
    decodeBfloat16(Uint8Array.of(0x80, 0x3f, 0x49, 0x40, 0x80, 0xff), dst);
    expect([...dst]).toEqual([1, 3.140625, Number.NEGATIVE_INFINITY]);
  });
});

describe('openAttentionTrace', () => {
  it('hands out each KV head, step and window as it was written', () => {
    const trace = openWith(soundTensors());
    const k = counting(shapes.k, 2);
    const q = counting(shapes.q, 0);
    expect([...trace.keys(2, 0)]).toEqual(k.slice(0, 10));
    expect([...trace.keys(2, 1)]).toEqual(k.slice(10));
    // Four query heads of two channels, two a KV head.
    expect([...trace.queries(0, 1, 0)]).toEqual(q.slice(8, 12));
    expect([...trace.queries(0, 1, 1)]).toEqual(q.slice(12));
    expect(trace.promptQueries(2, 1)).toEqual({
      windowTokens: 1,
      q: Float32Array.from(counting(shapes.qprompt, 2).slice(4)),
    });
    expect([trace.has('k', 2), trace.has('k', 1), trace.has('v', 2)]).toEqual([true, false, false]);
    expect(trace.keys(2, 0)).toBe(trace.keys(2, 0));
    expect(() => trace.values(0, 0)).toThrow('"v.0": not recorded');
    expect(() => trace.keys(0, 2)).toThrow('no index 2 in 2');
  });

  it('scales int8 by row or by channel', () => {
    const k = Int8Array.from({ length: 20 }, (_, i) => i - 10);
    const rest = soundTensors().filter(({ name }) => name !== 'k.0');
    const bytes = new Uint8Array(k.buffer);
    const withScale = (shape: number[]): RecordedTrace =>
      openWith([
        ...rest,
        tensorOf('k.0', 'I8', shapes.k, bytes),
        tensorOf('k.0.scale', 'F32', shape, floats(counting(shape, 1))),
      ]);
    expect([...withScale([2, 5]).keys(0, 1)].slice(0, 4)).toEqual([0, 2.25, 2 * 2.5, 3 * 2.5]);
    expect([...withScale([2, 2]).keys(0, 1)].slice(0, 4)).toEqual([0, 1.75, 3, 3 * 1.75]);
    expect(() => withScale([2, 3])).toThrow(
      'expected [2, 5] (per row) or [2, 2] (per channel), found [2, 3]',
    );
  });

  it('adds the offset of each channel to int8 values', () => {
    const rest = soundTensors().filter(({ name }) => name !== 'k.0');
    const coded = [
      tensorOf(
        'k.0',
        'I8',
        shapes.k,
        Uint8Array.from({ length: 20 }, (_, i) => i),
      ),
      tensorOf('k.0.scale', 'F32', [2, 5], floats(counting([2, 5], 1))),
    ];
    const withOffset = (shape: number[], by: number) =>
      openWith([...rest, ...coded, tensorOf('k.0.offset', 'F32', shape, floats(counting(shape, by)))]);
    const plain = openWith([...rest, ...coded]);
    const offsets = counting([2, 2], 3);
    const shifted = [...plain.keys(0, 1)].map((x, i) => x + offsets[2 + (i % 2)]);
    expect([...withOffset([2, 2], 3).keys(0, 1)]).toEqual(shifted);
    expect(withOffset([2, 2], 3).digest).not.toBe(plain.digest);
    expect(() => withOffset([2, 5], 3)).toThrow(
      '"k.0.offset": shape: expected [2, 2] (per channel), found [2, 5]',
    );
  });

  it('has a digest of what it returns, not of provenance or order', () => {
    const tensors = soundTensors();
    const digest = openWith(tensors).digest;
    expect(openWith([...tensors].reverse(), { ...metadata, provenance: { by: 'test' } }).digest).toBe(digest);
    const changed = floats([...counting(shapes.k, 2).slice(1), 9]);
    expect(
      openWith([...tensors.filter((t) => t.name !== 'k.2'), tensorOf('k.2', 'F32', shapes.k, changed)])
        .digest,
    ).not.toBe(digest);
    expect(openWith(tensors, { ...metadata, model: { ...metadata.model, name: 'other' } }).digest).not.toBe(
      digest,
    );
  });

  it('refuses a number that nothing can be computed with when it is read', () => {
    const wrong = [
      [Number.NaN, 'a finite number'],
      [Number.POSITIVE_INFINITY, 'a finite number'],
      [-(2 ** 57), 'a number of at most 2^56 in size'],
    ] as const;
    for (const [bad, expected] of wrong) {
      const values = counting(shapes.k, 0);
      values[13] = bad;
      const trace = openWith([
        ...soundTensors().filter(({ name }) => name !== 'k.0'),
        tensorOf('k.0', 'F32', shapes.k, floats(values)),
      ]);
      expect(trace.keys(0, 0)).toHaveLength(10);
      expect(() => trace.keys(0, 1)).toThrow(`tensor "k.0": element 13: expected ${expected}, found ${bad}`);
    }
  });

  const without = (name: string) => soundTensors().filter((t) => t.name !== name);
  const model = metadata.model;
  const cases: readonly [string, () => unknown, string, RegExp][] = [
    [
      'more layers than memory could hold',
      () => openWith(soundTensors(), { ...metadata, model: { ...model, layers: 10_000_000 } }),
      'malformed',
      /metadata\.model\.layers: .*4096/,
    ],
    ['a missing tensor', () => openWith(without('q.2')), 'missing', /tensor "q.2": expected in the file/],
    [
      'an undeclared tensor',
      () => openWith([...soundTensors(), tensorOf('v.0', 'F32', [0], floats([]))]),
      'contradiction',
      /tensor "v.0": not expected/,
    ],
    [
      'a shape against the metadata',
      () => openWith(soundTensors(), { ...metadata, promptTokens: 4 }),
      'contradiction',
      /"k.0": shape: metadata says \[kvHeads 2, promptTokens \+ steps 6, headDim 2\], found \[2, 5, 2\]/,
    ],
    [
      'a rank against the metadata',
      () => openWith([...without('k.0'), tensorOf('k.0', 'F32', [20], floats(counting([20], 0)))]),
      'contradiction',
      /"k.0": shape/,
    ],
    [
      'an integer dtype',
      () => openWith([...without('k.0'), tensorOf('k.0', 'I32', shapes.k, new Uint8Array(80))]),
      'not-supported',
      /"k.0": dtype: expected F16, BF16, F32 or I8, found I32/,
    ],
    [
      'int8 without scale',
      () => openWith([...without('k.0'), tensorOf('k.0', 'I8', shapes.k, new Uint8Array(20))]),
      'missing',
      /"k.0.scale": expected beside/,
    ],
    [
      'another version',
      () => openWith(soundTensors(), { ...metadata, format: 'kvtier.attention/2' }),
      'not-supported',
      /metadata.format: expected "kvtier.attention\/1"/,
    ],
    [
      'heads that do not group',
      () => openWith(soundTensors(), { ...metadata, model: { ...model, heads: 3 } }),
      'contradiction',
      /metadata.model.heads: expected a multiple/,
    ],
    [
      'layers out of order',
      () => openWith(soundTensors(), { ...metadata, recordedLayers: [2, 0] }),
      'contradiction',
      /recordedLayers: expected ascending/,
    ],
    [
      'a layer the model lacks',
      () => openWith(soundTensors(), { ...metadata, recordedLayers: [0, 3] }),
      'contradiction',
      /recordedLayers: expected layers below/,
    ],
    [
      'a negative count',
      () => openWith(soundTensors(), { ...metadata, steps: -1 }),
      'malformed',
      /metadata.steps: /,
    ],
    [
      'an unknown field',
      () => openWith(soundTensors(), { ...metadata, fields: ['z'] }),
      'malformed',
      /metadata.fields.0: /,
    ],
    [
      'a window longer than the prompt',
      () => openWith(soundTensors(), { ...metadata, promptWindowTokens: 9 }),
      'contradiction',
      /promptWindowTokens: expected 1..promptTokens/,
    ],
    [
      'no metadata',
      () => openAttentionTrace(memorySource(writeSafetensors([], {})), 'toy.safetensors'),
      'missing',
      /__metadata__.kvtier: expected/,
    ],
    [
      'metadata that is no JSON',
      () => openAttentionTrace(memorySource(writeSafetensors([], { kvtier: '{' })), 'toy.safetensors'),
      'malformed',
      /__metadata__.kvtier: expected valid JSON/,
    ],
  ];
  it.each(cases)('refuses %s', (_, run, code, message) => {
    try {
      run();
    } catch (error) {
      expect(error).toBeInstanceOf(TraceError);
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
      expect((error as Error).message).toMatch(/^toy\.safetensors: [^\n]+$/);
      return;
    }
    throw new Error('expected the file to be refused');
  });
});

describe('files', () => {
  it('writes a trace and reads the same trace back, leaving no temporary name', () => {
    const trace = openWith(soundTensors());
    for (const dtype of ['F16', 'F32'] as const) {
      const path = join(directory, `${dtype}.safetensors`);
      writeSafetensorsFile(path, attentionTensors(trace, metadata, dtype), encodeAttentionMetadata(metadata));
      const back = openAttentionFile(path);
      for (const layer of [0, 2]) {
        expect(back.keys(layer, 1)).toEqual(trace.keys(layer, 1));
        expect(back.queries(layer, 1, 1)).toEqual(trace.queries(layer, 1, 1));
        expect(back.promptQueries(layer, 1)).toEqual(trace.promptQueries(layer, 1));
      }
      if (dtype === 'F32') expect(back.digest).toBe(trace.digest);
      back.close();
    }
    expect(readdirSync(directory).sort()).toEqual(['F16.safetensors', 'F32.safetensors']);
  });

  it('leaves nothing behind when a tensor fails, and names files that cannot be opened', () => {
    const path = join(directory, 'broken.safetensors');
    expect(() => writeSafetensorsFile(path, [tensorOf('a', 'U8', [2], new Uint8Array(1))], {})).toThrow(
      TraceError,
    );
    expect(readdirSync(directory).filter((name) => name.includes('broken'))).toEqual([]);
    expect(() => openAttentionFile(path)).toThrow(/broken.safetensors: expected a readable file \(ENOENT\)/);
    expect(() => openAttentionFile(directory)).toThrow('expected a regular file');
    writeFileSync(path, 'short');
    expect(() => openAttentionFile(path)).toThrow(/broken.safetensors: header length/);
    rmSync(path);
  });
});

describe('ArrayCache', () => {
  it('keeps the most recent arrays within the budget, and always the newest', () => {
    const cache = new ArrayCache(100);
    const made: string[] = [];
    const get = (key: string, length: number): Float32Array =>
      cache.get(key, () => {
        made.push(key);
        return new Float32Array(length);
      });
    get('a', 10);
    get('b', 10);
    get('a', 10);
    get('c', 10);
    get('a', 10);
    get('b', 10);
    get('big', 1000);
    get('big', 1000);
    expect(made).toEqual(['a', 'b', 'c', 'b', 'big']);
  });
});
