import { startStack } from '@pennywire/stack/stack.ts'
import { setUpServers, startSystem } from '@pennywire/stack/system.ts'
import { startControl } from './control.ts'
import type { StackContext, SystemContext } from './stack-context.ts'
import { stackContextOf, systemContextOf, TEST_SETTINGS } from './system-context.ts'

/** The values that the files in tests/ can inject. */
export type TestContext = { stack: StackContext; system: SystemContext }

const report = (line: string) => console.log(`  ${line}`)

/** Starts the servers without a service, on free ports, with databases, topics and schemas set up. */
export const startTestStack = async (
  dataDir: string,
): Promise<{ stack: StackContext; stop: () => Promise<void> }> => {
  const stack = await startStack({ dataDir, report })
  try {
    await setUpServers(stack)
  } catch (error) {
    await stack.stop()
    throw error
  }
  return { stack: stackContextOf(stack), stop: stack.stop }
}

/** Starts the servers and the whole system on them with the tests' settings, on free ports. */
export const startTestSystem = async (
  dataDir: string,
  settings: Record<string, string> = TEST_SETTINGS,
): Promise<{ context: TestContext; stop: () => Promise<void> }> => {
  // The servers inherit this process's environment.
  process.env.SANDBOX_DELAY_MS = TEST_SETTINGS.SANDBOX_DELAY_MS
  const stack = await startStack({ dataDir, report })
  const system = await startSystem(stack, { env: { all: settings }, report })
  const control = await startControl(system)
  return {
    context: { stack: stackContextOf(stack), system: systemContextOf(system, control.url) },
    stop: async () => {
      await control.stop()
      await system.stop()
    },
  }
}
