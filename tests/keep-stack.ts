// `npm run test:stack`: one stack and system that stay up for many short test runs, until Ctrl-C. While it runs,
// `npm test -- FILE` uses it instead of starting one, so a run takes seconds. The services keep the code that they
// started with: restart the stack after changing a service that a whole-system test uses.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KEPT_STACK_FILE } from './kept-stack.ts'
import { startTestSystem } from './start-test-system.ts'

const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-test-'))
const { context, stop } = await startTestSystem(dataDir)
writeFileSync(KEPT_STACK_FILE, JSON.stringify({ pid: process.pid, ...context }), { mode: 0o600 })
console.log('The stack is ready: npm test -- FILE uses it until you stop this with Ctrl-C.')

let stopping = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, async () => {
    if (stopping) return
    stopping = true
    rmSync(KEPT_STACK_FILE, { force: true })
    await stop()
    rmSync(dataDir, { recursive: true, force: true })
    process.exit(0)
  })
}
