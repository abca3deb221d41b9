/** Folders on the way to a file, made one by one: Node's own recursive way never returns where a file system makes none (/proc). */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** Makes a folder and those above it that are missing. Throws what the file system says where one can't be made. */
export const makeFolder = (path: string): void => {
  if (isFolder(path)) return;
  makeFolder(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process may have made it meanwhile.
    if (!isFolder(path)) throw error;
  }
};
