/** A machine that can't do what is asked: the same line and exit code from every verb that needs kernels. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { verb as calibrate } from './calibrate.ts';
import { failureOf } from './failure.ts';
import { verb as validate } from './validate.ts';

const failing = async (run: Promise<void>): Promise<unknown> => {
  try {
    await run;
  } catch (error) {
    return error;
  }
  throw new Error('did not fail');
};

describe('a backend that cannot be had', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('fails calibrate and validate alike, with one line that names the flag and the library', async () => {
    vi.stubEnv('KVTIER_CUDA_LIBRARY', '/no/such/libkvtier-cuda.so');
    const { context } = recordedContext();
    const backend = 'cuda' as const;
    const failures = [
      failureOf(await failing(calibrate.run({ ...calibrate.flags.parse({}), backend }, context))),
      failureOf(
        await failing(
          validate.run({ ...validate.flags.parse({}), backend, policies: ['streaming-llm'] }, context),
        ),
      ),
    ];
    expect(failures[0]).toEqual(failures[1]);
    expect(failures[0].exitCode).toBe(1);
    expect(failures[0].message).toMatch(/^--backend cuda: .+/);
    expect(failures[0].message).not.toContain('\n');
  });
});
