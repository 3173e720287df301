import { defineConfig } from 'vitest/config'

/** Pure tests need no servers; the others share one stack, so that two files never meet on a small machine. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'pure',
          include: [
            'packages/*/src/**/*.test.ts',
            'services/*/src/**/*.test.ts',
            'tests/pure/*.test.ts',
            'tests/faults/*.test.ts',
          ],
          exclude: ['**/*.integration.test.ts', '**/node_modules/**'],
          // A machine that others share may take ten times as long.
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'real',
          include: [
            'packages/*/src/**/*.integration.test.ts',
            'services/*/src/**/*.integration.test.ts',
            'tests/*.test.ts',
            'tests/store-conformance/*.test.ts',
          ],
          globalSetup: 'tests/global-setup.ts',
          fileParallelism: false,
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
})
