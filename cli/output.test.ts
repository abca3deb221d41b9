/** A place that cannot be written is told before anything runs; what is written is whole or not there. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeGzipJson } from '../validate/gzip-json.ts';
import { outputFile, outputFolder, writeJson, writeOutput } from './output.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvtier-output-'));
const file = join(folder, 'taken');
writeFileSync(file, 'before');

test('a new place below a folder is fine, and is not made yet', () => {
  const path = join(folder, 'new', 'deep', 'out');
  expect(outputFile.parse(path)).toBe(path);
  expect(outputFolder.parse(path)).toBe(path);
  expect(existsSync(join(folder, 'new'))).toBe(false);
});

test.each([
  [
    'a folder below a file',
    outputFolder,
    join(file, 'out'),
    `expected a folder that can be written (${file} is a file)`,
  ],
  [
    'a folder that is a file',
    outputFolder,
    file,
    `expected a folder that can be written (${file} is a file)`,
  ],
  [
    'a file that is a folder',
    outputFile,
    folder,
    `expected a file that can be written (${folder} is a folder)`,
  ],
  ['no name', outputFile, '', 'expected a file that can be written'],
  ['a device', outputFile, '/dev/null', '(/dev/null is neither a file nor a folder)'],
])('%s is refused', (_, schema, path, message) => {
  expect(schema.safeParse(path).error?.issues[0]?.message).toContain(message);
});

// Where a file system makes no folders, Node's recursive mkdir never returns.
test.skipIf(!existsSync('/proc/self'))('a folder that a file system refuses is told', () => {
  expect(() => writeOutput('/proc/kvtier/out', 'file', ['text'])).toThrow(/--out .*: cannot write file: /);
  expect(() => writeGzipJson('/proc/kvtier/file', {})).toThrow('/proc/kvtier/file: cannot be written: ');
});

test('a full disk leaves what was there and nothing else', () => {
  // Writes to /dev/full fail as on a full disk.
  symlinkSync('/dev/full', `${file}.new`);
  expect(() => writeGzipJson(file, { large: 'x'.repeat(1000) })).toThrow(
    `${file}: cannot be written: ENOSPC`,
  );
  symlinkSync('/dev/full', `${file}.${process.pid}.partial`);
  expect(() => writeOutput(folder, 'taken', ['after'])).toThrow(/--out .*: cannot write taken: ENOSPC/);
  expect(readFileSync(file, 'utf8')).toBe('before');
  expect(readdirSync(folder)).toEqual(['taken']);
});

test('lists of numbers stand on a line, and nothing else of a document changes', () => {
  const value = {
    name: '[\n 1,\n 2\n]',
    shares: [1, -2.5, 3e-7, 4e21],
    lists: [[1], [], [2, 3]],
    text: ['1', '2'],
  };
  const text = writeJson(value);
  expect(JSON.parse(text)).toEqual(value);
  expect(text).toContain('"shares": [1, -2.5, 3e-7, 4e+21]');
  expect(text).toContain('    [2, 3]\n');
  expect(text).toContain('"1",\n');
});
