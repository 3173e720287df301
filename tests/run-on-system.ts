import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startTestSystem, type TestContext } from './start-test-system.ts'
import { TEST_SETTINGS } from './system-context.ts'

/**
 * Runs a command's `work` on a whole system of its own, and ends the process with the exit code that it returns, or
 * with 1 if it throws. A signal ends it too, and so does `withinMinutes`. The system and its data are removed.
 */
export const runOnSystem = async (
  options: { withinMinutes: number; settings?: Record<string, string> },
  work: (context: TestContext) => Promise<number>,
): Promise<never> => {
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-command-'))
  let stop = async () => {}
  const end = async (code: number): Promise<never> => {
    await stop()
    rmSync(dataDir, { recursive: true, force: true })
    process.exit(code)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void end(130))
  setTimeout(() => {
    console.error(`not over after ${options.withinMinutes} minutes`)
    void end(1)
  }, options.withinMinutes * 60_000).unref()
  try {
    const system = await startTestSystem(dataDir, { ...TEST_SETTINGS, ...options.settings })
    stop = system.stop
    return await end(await work(system.context))
  } catch (error) {
    console.error(error)
    return await end(1)
  }
}
