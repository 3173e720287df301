// Starts one stack and the whole system on it for a test run, on free ports with data of their own, and removes all.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startStack } from '@pennywire/stack/stack.ts'
import { startSystem } from '@pennywire/stack/system.ts'
import type { TestProject } from 'vitest/node'
import { startControl } from './control.ts'
import { stackContextOf, systemContextOf, TEST_SETTINGS } from './system-context.ts'

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-test-'))
  // The servers inherit this process's environment.
  process.env.SANDBOX_DELAY_MS = TEST_SETTINGS.SANDBOX_DELAY_MS
  const report = (line: string) => console.log(`  ${line}`)
  const stack = await startStack({ dataDir, report })
  const system = await startSystem(stack, { env: { all: TEST_SETTINGS }, report })
  const control = await startControl(system)

  project.provide('stack', stackContextOf(system))
  project.provide('system', systemContextOf(system, control.url))
  return async () => {
    await control.stop()
    await system.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}
