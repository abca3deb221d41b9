/** Reading: formats told apart by content, lines cut anywhere, hashes of any kind, and one clear line for bad input. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compactLines } from './compact-writer.ts';
import { Interner } from './interner.ts';
import { readRequestFile, scanRequestFile } from './node-file.ts';
import type { BlockHash, RequestTrace } from './request-trace.ts';
import { parseRequestTrace, RowReader, TraceCollector } from './row-reader.ts';

const line = (timestamp: number, input: number, hashes: readonly unknown[], more = {}) =>
  JSON.stringify({ timestamp, input_length: input, output_length: 5, hash_ids: hashes, ...more });
const mooncake = [line(0, 1024, [7, 9]), line(3, 700, [7, 10]), line(3, 1025, [7, 9, 11])].join('\n');

describe('mooncake', () => {
  it('reads times, lengths and blocks', () => {
    const trace = parseRequestTrace(`${mooncake}\n`, 'a.jsonl');
    expect(trace.format).toBe('mooncake');
    expect([...trace.arrivalNs]).toEqual([0, 3e6, 3e6]);
    expect([...trace.inputTokens]).toEqual([1024, 700, 1025]);
    expect([...trace.offsets]).toEqual([0, 2, 4, 7]);
    expect([...trace.blockIds]).toEqual([0, 1, 0, 2, 0, 1, 3]);
    expect(trace.uniqueBlocks).toBe(4);
    expect(trace.blockTokens).toBe(512);
    expect(trace.session).toBeNull();
  });

  it('tells apart hashes beyond 2^53, negative ones and strings', () => {
    const text =
      '{"timestamp":0,"input_length":2500,"output_length":1,"hash_ids":[9007199254740993,9007199254740992, -9007199254740993,"9a", -1]}\n' +
      '{"timestamp":1,"input_length":1000,"output_length":1,"hash_ids":[9007199254740993 ,"9a"]}';
    const trace = parseRequestTrace(text, 'a.jsonl');
    expect([...trace.blockIds]).toEqual([0, 1, 2, 3, 4, 0, 3]);
  });

  it('finds the block size that the lengths imply, and says so', () => {
    const trace = parseRequestTrace([line(0, 130, [1, 2, 3]), line(1, 64, [1])].join('\n'), 'a.jsonl');
    expect(trace.blockTokens).toBe(64);
    expect(trace.notes.join()).toMatch(/64 tokens.*stated: 512/);
  });

  it('says when no block size fits, and goes on', () => {
    const trace = parseRequestTrace([line(0, 512, [1, 2, 3]), line(1, 5120, [1])].join('\n'), 'a.jsonl');
    expect(trace.blockTokens).toBe(512);
    expect(trace.notes.join()).toMatch(/do not follow/);
  });

  it('sorts requests that are out of order, ties as in the file', () => {
    const text = [line(5, 512, [1]), line(2, 1000, [2, 3]), line(5, 400, [3])].join('\n');
    const trace = parseRequestTrace(text, 'a.jsonl');
    expect([...trace.arrivalNs]).toEqual([2e6, 5e6, 5e6]);
    expect([...trace.inputTokens]).toEqual([1000, 512, 400]);
    expect([...trace.blockIds]).toEqual([1, 2, 0, 2]);
    expect(trace.notes.join()).toMatch(/sorted by arrival/);
  });
});

describe('qwen-bailian', () => {
  it('reads seconds, 16-token blocks and the turns of a conversation', () => {
    const turn = (chat: number, parent: number, at: number, hashes: readonly number[]) =>
      line(at, 16 * hashes.length, hashes, { chat_id: chat, parent_chat_id: parent, type: 'text', turn: 1 });
    const text = [turn(10, -1, 0.5, [1]), turn(11, -1, 1, [2, 3]), turn(12, 10, 2, [1, 4])].join('\n');
    const trace = parseRequestTrace(text, 'a.jsonl');
    expect(trace.format).toBe('qwen-bailian');
    expect(trace.blockTokens).toBe(16);
    expect([...trace.arrivalNs]).toEqual([5e8, 1e9, 2e9]);
    expect([...(trace.session ?? [])]).toEqual([0, 1, 0]);
  });
});

describe('kvtier-requests', () => {
  it('gives back every trace that was written', () => {
    const rows = fc.array(
      fc.record({
        wait: fc.nat(1e6),
        inputTokens: fc.nat(1e6),
        outputTokens: fc.nat(1e4),
        ids: fc.array(fc.nat(9), { maxLength: 8 }),
        session: fc.integer({ min: -1, max: 3 }),
        thinkNs: fc.nat(1e9),
      }),
      { minLength: 1, maxLength: 20 },
    );
    fc.assert(
      fc.property(rows, fc.boolean(), fc.boolean(), (all, hasSession, hasThink) => {
        let now = 0;
        const offsets = [0];
        for (const { ids } of all) offsets.push(offsets[offsets.length - 1] + ids.length);
        const interner = new Interner();
        const sessions = new Interner();
        const session = Int32Array.from(all, (row) => (row.session < 0 ? -1 : sessions.intern(row.session)));
        const trace: RequestTrace = {
          name: 'a',
          format: 'kvtier-requests',
          blockTokens: 512,
          arrivalNs: Float64Array.from(all, ({ wait }) => {
            now += wait * 1000;
            return now;
          }),
          inputTokens: Int32Array.from(all, (row) => row.inputTokens),
          outputTokens: Int32Array.from(all, (row) => row.outputTokens),
          offsets: Int32Array.from(offsets),
          blockIds: Int32Array.from(all.flatMap(({ ids }) => ids.map((id) => interner.intern(id)))),
          uniqueBlocks: interner.size,
          session: hasSession && session.some((id) => id >= 0) ? session : null,
          thinkNs: hasThink ? Float64Array.from(all, (row) => row.thinkNs) : null,
          notes: [],
        };
        const back = parseRequestTrace([...compactLines(trace)].join('\n'), 'a');
        // Lengths and hash counts are random here: what block size they imply is no part of the round trip.
        expect({ ...back, blockTokens: 512, notes: [] }).toEqual(trace);
      }),
      { seed: 42, numRuns: 200 },
    );
  });

  it('keeps the block size of its header', () => {
    const text =
      '{"format":"kvtier.requests/1","blockTokens":16,"timeUnitNs":1}\n[0,33,1,[0,3]]\n[5,16,1,[0,1]]';
    const trace = parseRequestTrace(text, 'a');
    expect(trace.blockTokens).toBe(16);
    expect([...trace.arrivalNs]).toEqual([0, 5]);
    expect([...trace.blockIds]).toEqual([0, 1, 2, 0]);
    expect(trace.notes).toEqual([]);
  });
});

describe('lines', () => {
  it('may be cut anywhere, end in CRLF, be blank, begin with a byte-order mark', () => {
    const text = `\uFEFF${mooncake.replaceAll('\n', '\r\n\r\n')}`;
    const whole = parseRequestTrace(mooncake, 'a');
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
        const collector = new TraceCollector('a');
        const reader = new RowReader('a', collector.add);
        const ends = [...cuts, text.length].sort((a, b) => a - b);
        ends.forEach((end, k) => {
          reader.push(text.slice(k === 0 ? 0 : ends[k - 1], end));
        });
        reader.end();
        expect(collector.finish(reader.blockTokens)).toEqual(whole);
      }),
      { seed: 42, numRuns: 100 },
    );
  });

  it('keep their numbers after the head of the file', () => {
    const many = Array.from({ length: 2000 }, (_, at) => line(at, 512, [at]));
    many[1500] = line(1500, 512.5, [1]);
    expect(() => parseRequestTrace(many.join('\n'), 'a')).toThrow(/^a: line 1501: field input_length/);
  });

  it.each([
    [
      '{"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]',
      /line 2: field \(line\): expected a JSON object/,
    ],
    ['[1]', /expected a JSON object, got \[1\]/],
    [line(-1, 512, [1]), /field timestamp: expected a time in ms, >= 0, got -1/],
    [line(0, 0, [1]), /field input_length: expected a whole number of tokens >= 1, got 0/],
    [line(0, 3e9, [1]), /field input_length/],
    [line(0, 512, [1, 2.5]), /field hash_ids\[1\]: expected a whole number or a string, got 2\.5/],
    [line(0, 512, [1, null]), /hash_ids\[1\]/],
    [
      JSON.stringify({ timestamp: 0, input_length: 1, output_length: 1 }),
      /field hash_ids: expected an array .*got nothing/,
    ],
    [JSON.stringify({ timestamp: 0, input_length: 1, hash_ids: [1] }), /field output_length/],
  ])('that are wrong are named: %s', (bad, message) => {
    expect(() => parseRequestTrace(`${line(0, 512, [1])}\n${bad}`, 'bad.jsonl')).toThrow(message);
    expect(() => parseRequestTrace(`${line(0, 512, [1])}\n${bad}`, 'bad.jsonl')).toThrow(
      /^bad\.jsonl: line 2: [^\n]*$/,
    );
  });

  it.each([
    [
      '{"format":"kvtier.requests/1","blockTokens":-1,"timeUnitNs":1}\n[0,1,1,[0,1]]',
      /line 1: field blockTokens/,
    ],
    ['{"format":"kvtier.requests/1","blockTokens":1,"timeUnitNs":1}\n[0,1,1,[0]]', /line 2: field runs/],
    [
      '{"format":"kvtier.requests/1","blockTokens":1,"timeUnitNs":1}\n[0,1,1,[0,1e9]]',
      /line 2: field runs\[0\]/,
    ],
    ['{"format":"kvtier.requests/1","blockTokens":1,"timeUnitNs":1}\n[0,1,1]', /line 2: .*array of 4 cells/],
    ['{"format":"kvtier.requests/1","blockTokens":1,"timeUnitNs":1}\n', /at least one request/],
  ])('of the compact form too: %s', (text, message) => {
    expect(() => parseRequestTrace(text, 'bad')).toThrow(message);
  });
});

describe('files', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvtier-requests-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const put = (name: string, bytes: string | Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };

  it('are read alike plain and compressed, whatever their name', async () => {
    const plain = await readRequestFile(put('a.bin', mooncake));
    const packed = await readRequestFile(put('b.txt', gzipSync(mooncake)));
    expect({ ...packed, name: '' }).toEqual({ ...plain, name: '' });
  });

  it('report progress up to their size', async () => {
    const path = put('c', mooncake);
    const seen: number[] = [];
    await scanRequestFile(path, () => {}, { onProgress: (read, size) => seen.push(read / size) });
    expect(seen.at(-1)).toBe(1);
  });

  it.each<[string, string | Uint8Array, RegExp]>([
    ['empty', '', /expected a request trace, found an empty file/],
    ['unknown', 'a,b,c\n1,2,3\n', /known format \(kvtier-requests, mooncake, qwen-bailian\)/],
    ['cut.gz', gzipSync(mooncake).subarray(0, 60), /expected whole compressed data/],
    ['latin1', Uint8Array.of(0x7b, 0x22, 0xe9, 0x22), /expected UTF-8 text/],
  ])('that are %s end in one line', async (name, bytes, message) => {
    const path = put(name, bytes);
    await expect(readRequestFile(path)).rejects.toThrow(message);
    await expect(readRequestFile(path)).rejects.toThrow(path);
  });

  it('that are missing, or directories, are named', async () => {
    await expect(readRequestFile(join(folder, 'none'))).rejects.toThrow(/none: no such file/);
    await expect(readRequestFile(folder)).rejects.toThrow(/expected a file, found a directory/);
  });
});

describe('Interner', () => {
  it('numbers by first appearance, as a map does', () => {
    const hash = fc.oneof<fc.Arbitrary<BlockHash>[]>(
      fc.nat(40),
      fc.constantFrom(2 ** 31, 2 ** 40, 3_000_000, -1, 1_500_000),
      fc.constantFrom('0', '7', 'x'),
    );
    fc.assert(
      fc.property(fc.array(hash, { maxLength: 60 }), (hashes) => {
        const interner = new Interner();
        const known = new Map<BlockHash, number>();
        for (const item of hashes) {
          if (!known.has(item)) known.set(item, known.size);
          expect(interner.intern(item)).toBe(known.get(item));
        }
        expect(interner.size).toBe(known.size);
      }),
      { seed: 42, numRuns: 300 },
    );
  });
});
