/**
 * Files of a run: each is written under a temporary name and renamed, so a reader never sees half of one. The flags
 * that name them are judged before anything runs: minutes of measuring must not end in a folder that cannot be written.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import * as z from 'zod';
import { makeFolder } from '../validate/make-folder.ts';
import { UsageError } from './verb.ts';

/** JSON for people and for diffs: a member a line, but a list of numbers on one. Text cannot hold such a list: it has no line breaks. */
export const writeJson = (value: unknown): string =>
  `${JSON.stringify(value, null, 2).replace(/\[\n\s+(-?\d[\d.e+-]*(?:,\n\s+-?\d[\d.e+-]*)*)\n\s+\]/g, (_, numbers: string) => `[${numbers.replace(/\s+/g, ' ')}]`)}\n`;

/** The path itself, or the nearest folder above it that exists. */
const nearestOf = (path: string): string => {
  if (existsSync(path) || dirname(path) === path) return path;
  return nearestOf(dirname(path));
};

/** Why nothing can be written at a path, or null. A missing folder is made when something is written. */
const troubleAt = (path: string, kind: 'file' | 'folder'): string | null => {
  const whole = resolve(path);
  try {
    const nearest = nearestOf(whole);
    const stat = statSync(nearest);
    const isFolder = stat.isDirectory();
    // A file takes the place of what has its name: a device must not be lost to it.
    if (!isFolder && !stat.isFile()) return `${nearest} is neither a file nor a folder`;
    if (nearest === whole && isFolder !== (kind === 'folder'))
      return `${nearest} is a ${isFolder ? 'folder' : 'file'}`;
    if (nearest !== whole && !isFolder) return `${nearest} is a file`;
    accessSync(isFolder ? nearest : dirname(nearest), constants.W_OK);
    return null;
  } catch (cause) {
    return (cause as Error).message;
  }
};

const outputPath = (kind: 'file' | 'folder') =>
  z.string().superRefine((path, issues) => {
    const trouble = troubleAt(path, kind);
    if (trouble !== null)
      issues.addIssue({ code: 'custom', message: `expected a ${kind} that can be written (${trouble})` });
  });

/** Flags that name what a verb writes. */
export const outputFile = outputPath('file');
export const outputFolder = outputPath('folder');

/** Writes text pieces to DIR/name; the folder is made. Throws UsageError when the folder cannot be written. */
export const writeOutput = (directory: string, name: string, pieces: Iterable<string>): string => {
  const path = join(directory, name);
  const temporary = `${path}.${process.pid}.partial`;
  try {
    makeFolder(directory);
    const file = openSync(temporary, 'w');
    try {
      for (const piece of pieces) writeSync(file, piece);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new UsageError(`--out ${directory}: cannot write ${name}: ${(cause as Error).message}`, { cause });
  }
  return path;
};
