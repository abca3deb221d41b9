/** Test runner: every `*.test.ts` beside the code and in test/; property tests run on one fixed seed. */
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{sim,kernels,traces,viz,validate,cli,bench,test}/**/*.test.ts'],
    // All cores: by default one is left to the runner, which has little to do, and of two that is half.
    maxWorkers: availableParallelism(),
    setupFiles: ['test/setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
