/**
 * The CPU backend for tests: builds the addon where it is stale, and says what is missing where it can't be built (then,
 * and only then, tests of it are skipped; CI has a compiler).
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe } from 'vitest';
import type { Backend } from '../kernels/backend.ts';
import { load } from '../kernels/load.ts';
import type { NativeOptions } from '../kernels/native.ts';
import { root } from './scan.ts';

const built = spawnSync(process.execPath, [join(root, 'scripts/build-kernels.js')], { encoding: 'utf8' });

/** Why there is no addon: no compiler or no headers; null when there is one. */
export const missing = /no C\+\+ compiler|no Node headers/.exec(built.stderr)?.[0] ?? null;
if (missing === null && built.status !== 0) throw new Error(`the addon does not build:\n${built.stderr}`);

export const openCpu = async (options: NativeOptions = {}): Promise<Backend> =>
  (await load('cpu', options)).backend;

/** `describe` for what needs the addon. */
export const describeNative = (name: string, body: () => void): void => {
  describe.skipIf(missing !== null)(missing === null ? name : `${name} (${missing})`, body);
};
