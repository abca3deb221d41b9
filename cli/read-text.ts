/** A text file of a user's, without the byte order mark with which editors on Windows begin one. */
import { readFileSync } from 'node:fs';

/** The whole file; throws node's error where it cannot be read. */
export const readText = (path: string): string => readFileSync(path, 'utf8').replace(/^\ufeff/, '');
