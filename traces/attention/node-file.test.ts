/** Files are written whole or not at all, whatever happens on the way. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { TraceError } from '../error.ts';
import { writeWholeFile } from './node-file.ts';

const root = mkdtempSync(join(tmpdir(), 'kvtier-write-'));
let folder = '';
let count = 0;
beforeEach(() => {
  folder = join(root, String(count++));
  mkdirSync(folder);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** Two bytes, then an error with this code, as the system's writes give it. */
function* failing(code: string): Generator<Uint8Array> {
  yield bytes(1, 2);
  throw Object.assign(new Error(code), { code });
}

describe('writing a whole file', () => {
  it('joins the chunks and leaves nothing beside the file', () => {
    const path = join(folder, 'a.bin');
    writeWholeFile(path, [bytes(1), bytes(), bytes(2, 3)]);
    expect([...readFileSync(path)]).toEqual([1, 2, 3]);
    expect(readdirSync(folder)).toEqual(['a.bin']);
  });

  it('says in one line that the disk is full, keeps what was there, and cleans up', () => {
    const path = join(folder, 'a.bin');
    writeFileSync(path, 'before');
    const write = (): void => writeWholeFile(path, failing('ENOSPC'));
    expect(write).toThrow(TraceError);
    expect(write).toThrow(`${path}: could not be written (no space left on the disk)`);
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(readdirSync(folder)).toEqual(['a.bin']);
  });

  it('cleans up after a fault of its caller, which stays what it was', () => {
    const write = (): void =>
      writeWholeFile(
        join(folder, 'a.bin'),
        (function* () {
          yield bytes(1);
          throw new TraceError('invalid-input', 'mine');
        })(),
      );
    expect(write).toThrow('mine');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('refuses a place that can not be written', () => {
    expect(() => writeWholeFile(join(folder, 'none', 'a.bin'), [bytes(1)])).toThrow(
      'expected a writable place',
    );
    mkdirSync(join(folder, 'taken'));
    expect(() => writeWholeFile(join(folder, 'taken'), [bytes(1)])).toThrow('could not be written');
    expect(readdirSync(folder)).toEqual(['taken']);
  });
});
