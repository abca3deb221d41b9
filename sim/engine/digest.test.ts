/** SHA-256 on the NIST examples and against Node's own; canonical JSON. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalJson, createDigest, digestOfJson } from './digest.ts';

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('NIST examples (FIPS 180-4, appendix B)', () => {
  const of = (text: string): string => {
    const digest = createDigest();
    digest.addBytes(ascii(text));
    return digest.hex();
  };
  expect(of('')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  expect(of('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  expect(of('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq')).toBe(
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  );
  expect(of('a'.repeat(1_000_000))).toBe('cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0');
});

test('pieces equal the whole, at every length around a block', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 }), (pieces) => {
      const digest = createDigest();
      for (const piece of pieces) {
        digest.addBytes(piece);
        digest.hex();
      }
      expect(digest.hex()).toBe(sha(Buffer.concat(pieces)));
    }),
    { seed: 42, numRuns: 500 },
  );
});

test('typed arrays add their bytes, also from the middle of a buffer', () => {
  const values = Float32Array.from({ length: 100 }, (_, i) => i / 3);
  const digest = createDigest();
  digest.addFloat32(values.subarray(3, 90));
  expect(digest.hex()).toBe(sha(new Uint8Array(values.buffer, 12, 87 * 4)));
});

test('strings are UTF-8 behind their length, numbers are eight bytes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const digest = createDigest();
      digest.addString(text);
      const bytes = Buffer.from(text, 'utf8');
      expect(digest.hex()).toBe(
        sha(Buffer.concat([new Uint8Array(Float64Array.of(bytes.length).buffer), bytes])),
      );
    }),
    { seed: 42 },
  );
  const a = createDigest();
  a.addString('ab');
  a.addString('c');
  const b = createDigest();
  b.addString('a');
  b.addString('bc');
  expect(a.hex()).not.toBe(b.hex());
});

test('canonical JSON has one spelling', () => {
  expect(canonicalJson({ b: 1e21, a: [undefined, -0, 'é"'], c: undefined, Z: { y: null, x: true } })).toBe(
    '{"Z":{"x":true,"y":null},"a":[null,0,"é\\""],"b":1e+21}',
  );
  expect(digestOfJson({ a: 1, b: 2 })).toBe(digestOfJson({ b: 2, a: 1 }));
  expect(digestOfJson({ a: 1 })).not.toBe(digestOfJson({ a: '1' }));
  expect(() => canonicalJson({ a: [{ b: Number.NaN }] })).toThrow(
    '$.a[0].b: expected a finite number, got NaN',
  );
  expect(() => canonicalJson({ a: new Map() })).toThrow('$.a: expected plain JSON data, got [object Map]');
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
    { seed: 42 },
  );
});
