import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from './start-test-system.ts'

/** The file in which `npm run test:stack` describes its stack; git ignores it, because it contains passwords. */
export const KEPT_STACK_FILE = join(import.meta.dirname, '..', 'node_modules', '.pennywire-test-stack.json')

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** The stack that `npm run test:stack` keeps running for this clone, if any. */
export const findKeptStack = (): TestContext | undefined => {
  try {
    const { pid, ...context } = JSON.parse(readFileSync(KEPT_STACK_FILE, 'utf8'))
    return isAlive(pid) ? context : undefined
  } catch {
    return undefined
  }
}
