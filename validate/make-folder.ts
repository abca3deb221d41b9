/** Folders on the way to a file, made one by one: Node's own recursive way never returns where a file system makes none (/proc). */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Makes a folder and those above it that are missing. Throws what the file system says where one can't be made. */
export const makeFolder = (path: string): void => {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
};
