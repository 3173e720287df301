// Starts the whole system on servers of its own for the files in tests/, and removes it and its data afterwards. A run
// of named files uses the system that `npm run test:stack` keeps running, if there is one.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { findKeptStack } from './kept-stack.ts'
import { startTestSystem, type TestContext } from './start-test-system.ts'

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const provide = ({ stack, system }: TestContext) => {
    project.provide('stack', stack)
    project.provide('system', system)
  }
  const kept = process.argv.length > 2 ? findKeptStack() : undefined
  if (kept) {
    console.log('  Using the stack of npm run test:stack.')
    provide(kept)
    return async () => {}
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-test-'))
  const { context, stop } = await startTestSystem(dataDir)
  provide(context)
  return async () => {
    await stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}
