import { startStack } from '@pennywire/stack/stack.ts'
import { startSystem } from '@pennywire/stack/system.ts'
import { startControl } from './control.ts'
import type { StackContext, SystemContext } from './stack-context.ts'
import { stackContextOf, systemContextOf, TEST_SETTINGS } from './system-context.ts'

/** The values that every test file can inject. */
export type TestContext = { stack: StackContext; system: SystemContext }

/** Starts one stack and the whole system on it with the tests' settings, on free ports. */
export const startTestSystem = async (
  dataDir: string,
  settings: Record<string, string> = TEST_SETTINGS,
): Promise<{ context: TestContext; stop: () => Promise<void> }> => {
  // The servers inherit this process's environment.
  process.env.SANDBOX_DELAY_MS = TEST_SETTINGS.SANDBOX_DELAY_MS
  const report = (line: string) => console.log(`  ${line}`)
  const stack = await startStack({ dataDir, report })
  const system = await startSystem(stack, { env: { all: settings }, report })
  const control = await startControl(system)
  return {
    context: { stack: stackContextOf(system), system: systemContextOf(system, control.url) },
    stop: async () => {
      await control.stop()
      await system.stop()
    },
  }
}
