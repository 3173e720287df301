// Starts the servers for the integration tests of a run, on free ports with their own data, and removes both
// afterwards. A run of named files uses the stack that `npm run test:stack` keeps running, if there is one.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { findKeptStack } from './kept-stack.ts'
import { startTestStack } from './start-test-system.ts'

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const kept = process.argv.length > 2 ? findKeptStack() : undefined
  if (kept) {
    project.provide('stack', kept.stack)
    return async () => {}
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-test-'))
  const { stack, stop } = await startTestStack(dataDir)
  project.provide('stack', stack)
  return async () => {
    await stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}
