/** Output that nobody takes: a closed pipe ends the run quietly, a full disk is told in one line. */
import { afterEach, expect, test, vi } from 'vitest';
import { quietOnClosedPipe } from './terminal.ts';

const { writeSync } = vi.hoisted(() => ({ writeSync: vi.fn() }));
vi.mock('node:fs', () => ({ writeSync }));

afterEach(() => vi.restoreAllMocks());

test.each([
  ['EPIPE', 0, []],
  ['ENOSPC', 1, [[2, 'kvtier: output: ENOSPC: write\n']]],
])('%s ends with exit code %d', (code, exitCode, told) => {
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => {
    throw new Error('exits');
  });
  quietOnClosedPipe();
  const error = Object.assign(new Error(`${code}: write`), { code });
  expect(() => process.stdout.emit('error', error)).toThrow('exits');
  expect(exit).toHaveBeenCalledWith(exitCode);
  expect(writeSync.mock.calls).toEqual(told);
});
