/** Round trips and a zoo of broken headers: each fault must be a TraceError whose one line names file and field. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TraceError } from '../error.ts';
import { memorySource } from './byte-source.ts';
import { findDuplicateKey } from './json-keys.ts';
import { type Dtype, dtypeBytes, openSafetensors } from './safetensors.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors-writer.ts';

const tensor = (name: string, dtype: Dtype, shape: number[], bytes: Uint8Array): TensorToWrite => ({
  name,
  dtype,
  shape,
  chunks: () => [bytes.subarray(0, bytes.length >> 1), bytes.subarray(bytes.length >> 1)],
});

/** A file whose header is given as text, followed by `dataBytes` zeros. */
const fileOf = (
  header: string,
  dataBytes = 0,
  length = new TextEncoder().encode(header).length,
): Uint8Array => {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  return bytes;
};

const open = (bytes: Uint8Array) => openSafetensors(memorySource(bytes), 'file.safetensors');

const failure = (bytes: Uint8Array): TraceError => {
  try {
    open(bytes);
  } catch (error) {
    if (error instanceof TraceError) return error;
    throw error;
  }
  throw new Error('expected the file to be refused');
};

const a = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}';

describe('round trip', () => {
  it('gives back names, dtypes, shapes, bytes and metadata', () => {
    const entry = fc.record({
      dtype: fc.constantFrom(...(Object.keys(dtypeBytes) as Dtype[])),
      shape: fc.array(fc.nat(5), { maxLength: 4 }),
      fill: fc.nat(255),
    });
    const names = fc.uniqueArray(
      fc.string({ unit: 'binary', maxLength: 12 }).filter((name) => name !== '__metadata__'),
      { maxLength: 6 },
    );
    const metadata = fc.dictionary(fc.string({ maxLength: 6 }), fc.string({ unit: 'binary' }), {
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(
        names,
        fc.array(entry, { minLength: 6, maxLength: 6 }),
        metadata,
        (names, entries, metadata) => {
          const made = names.map((name, index) => {
            const { dtype, shape, fill } = entries[index];
            const bytes = shape.reduce<number>((product, extent) => product * extent, dtypeBytes[dtype]);
            return tensor(name, dtype, shape, new Uint8Array(bytes).fill(fill));
          });
          const file = open(writeSafetensors(made, metadata));
          expect(Object.fromEntries(file.metadata)).toEqual(metadata);
          expect([...file.tensors.keys()]).toHaveLength(names.length);
          expect(file.dataOffset % 8).toBe(0);
          for (const { name, dtype, shape, chunks } of made) {
            const found = file.tensors.get(name);
            expect(found).toMatchObject({ dtype, shape });
            const bytes = found ? file.source.read(found.offset, found.sizeBytes) : null;
            expect(bytes).toEqual(new Uint8Array([...chunks()].flatMap((chunk) => [...chunk])));
          }
        },
      ),
      { seed: 42 },
    );
  });

  it('refuses to write a tensor whose bytes do not fill its shape', () => {
    expect(() => writeSafetensors([tensor('a', 'F32', [2], new Uint8Array(7))], {})).toThrow(
      'expected 8 bytes',
    );
    expect(() => writeSafetensors([tensor('a', 'F32', [2], new Uint8Array(9))], {})).toThrow(
      'expected 8 bytes',
    );
    expect(() => writeSafetensors([tensor('a', 'U8', [-1], new Uint8Array(0))], {})).toThrow('is no shape');
    const b = tensor('a', 'U8', [0], new Uint8Array(0));
    expect(() => writeSafetensors([b, b], {})).toThrow('is taken');
  });
});

describe('broken files', () => {
  const sound = writeSafetensors(
    [tensor('a', 'F32', [2], new Uint8Array(8)), tensor('b', 'I8', [3], new Uint8Array(3))],
    { kvtier: '{}' },
  );

  it('opens the sound file that the others are made from', () => {
    expect([...open(sound).tensors.keys()]).toEqual(['a', 'b']);
  });

  it('refuses every truncation', () => {
    for (let length = 0; length < sound.length; length++) {
      expect(failure(sound.slice(0, length)).message).toMatch(/^file\.safetensors: [^\n]+$/);
    }
  });

  it('never fails in another way than TraceError when one byte is changed', () => {
    fc.assert(
      fc.property(fc.nat(sound.length - 1), fc.nat(255), (at, value) => {
        const bytes = sound.slice();
        bytes[at] = value;
        try {
          const { tensors } = open(bytes);
          for (const entry of tensors.values()) memorySource(bytes).read(entry.offset, entry.sizeBytes);
        } catch (error) {
          expect(error).toBeInstanceOf(TraceError);
        }
      }),
      { seed: 42, numRuns: 2000 },
    );
  });

  const cases: readonly [string, Uint8Array, string, RegExp][] = [
    ['header longer than the file', fileOf('{}', 0, 3), 'malformed', /header length: says 3 bytes, only 2/],
    [
      'header of 2^63 bytes',
      fileOf('{}', 0, 2 ** 63),
      'malformed',
      /header length: expected at most 100000000/,
    ],
    ['header of 100 MB + 1', fileOf('{}', 0, 100_000_001), 'malformed', /header length: expected at most/],
    ['empty header', fileOf('', 4), 'malformed', /header length: expected at least 2/],
    ['no JSON', fileOf('{"a":'), 'malformed', /header: expected valid JSON/],
    ['an array', fileOf('[1]'), 'malformed', /header: expected a JSON object/],
    ['no UTF-8', fileOf('{"a":1}').fill(0xff, 10, 11), 'malformed', /header: expected UTF-8/],
    ['a name twice', fileOf(`{${a},${a}}`, 8), 'malformed', /key "a" stands twice/],
    ['a name twice by escapes', fileOf(`{${a},${a.replace('"a"', '"\\u0061"')}}`, 8), 'malformed', /key "a"/],
    ['an offset pair twice', fileOf(`{${a.replace(/}$/, ',"shape":[2]}')}}`, 8), 'malformed', /key "shape"/],
    [
      'overlap',
      fileOf(`{${a},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}`, 12),
      'malformed',
      /tensor "b": data_offsets: overlap/,
    ],
    [
      'a hole',
      fileOf(`{${a},"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}}`, 10),
      'malformed',
      /"b".*hole of 1 bytes/,
    ],
    [
      'a hole at the start',
      fileOf('{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', 2),
      'malformed',
      /hole/,
    ],
    ['bytes after the end', fileOf(`{${a}}`, 9), 'malformed', /1 bytes follow the last tensor/],
    ['data beyond the file', fileOf(`{${a}}`, 7), 'malformed', /"a": data_offsets: end at byte/],
    [
      'negative offset',
      fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}'),
      'malformed',
      /data_offsets: expected two/,
    ],
    [
      'reversed offsets',
      fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}', 1),
      'malformed',
      /begin <= end/,
    ],
    [
      'three offsets',
      fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}', 1),
      'malformed',
      /two non-negative/,
    ],
    [
      'float shape',
      fileOf('{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}', 1),
      'malformed',
      /shape: expected an array/,
    ],
    [
      'negative shape',
      fileOf('{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}', 1),
      'malformed',
      /shape: expected/,
    ],
    [
      'string shape',
      fileOf('{"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}}', 1),
      'malformed',
      /shape: expected/,
    ],
    [
      'overflowing shape',
      fileOf('{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
      'malformed',
      /more than 2\^53/,
    ],
    [
      'huge number',
      fileOf('{"a":{"dtype":"U8","shape":[1e300],"data_offsets":[0,1]}}', 1),
      'malformed',
      /shape: expected/,
    ],
    [
      'unknown dtype',
      fileOf('{"a":{"dtype":"F17","shape":[1],"data_offsets":[0,1]}}', 1),
      'malformed',
      /dtype: expected one of/,
    ],
    [
      'inherited dtype',
      fileOf('{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,1]}}', 1),
      'malformed',
      /dtype: expected/,
    ],
    [
      'size against shape',
      fileOf('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}}', 7),
      'contradiction',
      /needs 8 bytes, found 7/,
    ],
    ['no entry', fileOf('{"a":null}'), 'malformed', /"a": expected \{dtype/],
    [
      'a field too many',
      fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}'),
      'malformed',
      /unexpected field "x"/,
    ],
    ['metadata not a map', fileOf('{"__metadata__":[]}'), 'malformed', /__metadata__: expected a map/],
    [
      'metadata not strings',
      fileOf('{"__metadata__":{"kvtier":{}}}'),
      'malformed',
      /__metadata__\.kvtier: expected a string/,
    ],
  ];
  it.each(cases)('refuses %s', (_, bytes, code, message) => {
    const error = failure(bytes);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^file\.safetensors: [^\n]+$/);
  });

  it('accepts a name that objects inherit, and empty tensors', () => {
    const bytes = fileOf('{"__proto__":{"dtype":"F64","shape":[0,9007199254740991],"data_offsets":[0,0]}}');
    expect(open(bytes).tensors.get('__proto__')?.sizeBytes).toBe(0);
  });
});

describe('findDuplicateKey', () => {
  it('finds none in what JSON.stringify writes, and the one that is put in', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 3 }), fc.string({ unit: 'binary' }), (value, key) => {
        const text = JSON.stringify(value);
        const quoted = JSON.stringify(key);
        expect(findDuplicateKey(text)).toBeNull();
        expect(findDuplicateKey(`[{${quoted}:${text},"${key.length}x":[${text}],${quoted}:0}]`)).toBe(key);
      }),
      { seed: 42 },
    );
  });
});
