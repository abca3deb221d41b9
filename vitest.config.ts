/** Test runner: every `*.test.ts` beside the code and in test/; property tests run on one fixed seed. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{sim,kernels,traces,viz,validate,cli,bench,test}/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
