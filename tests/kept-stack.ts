import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from './start-test-system.ts'

/** Where `npm run test:stack` says what runs; it holds passwords of that stack, so git ignores it. */
export const KEPT_STACK_FILE = join(import.meta.dirname, '..', 'node_modules', '.pennywire-test-stack.json')

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** The stack that `npm run test:stack` keeps up for this clone, where one runs. */
export const findKeptStack = (): TestContext | undefined => {
  try {
    const { pid, ...context } = JSON.parse(readFileSync(KEPT_STACK_FILE, 'utf8'))
    return isAlive(pid) ? context : undefined
  } catch {
    return undefined
  }
}
