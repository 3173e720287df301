import { defineConfig } from 'vitest/config'

/** Real servers answer late on a machine that others share. */
const patient = { testTimeout: 30_000, hookTimeout: 60_000 }

/** Pure tests need no servers. The files of the other projects share one stack per project, and run one by one. */
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
          name: 'integration',
          include: [
            'packages/*/src/**/*.integration.test.ts',
            'services/*/src/**/*.integration.test.ts',
            'tests/store-conformance/*.test.ts',
          ],
          globalSetup: 'tests/provide-stack.ts',
          fileParallelism: false,
          ...patient,
        },
      },
      {
        test: {
          name: 'system',
          include: ['tests/*.test.ts'],
          globalSetup: 'tests/provide-system.ts',
          fileParallelism: false,
          ...patient,
        },
      },
    ],
  },
})
