import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, expect, test } from 'vitest'
import { startGuard } from './connect-guard.ts'
import { lockDataFolder } from './data-lock.ts'
import { type Command, runToEnd, startProcess } from './managed-process.ts'
import { waitUntil } from './wait-until.ts'

const folder = mkdtempSync(join(tmpdir(), 'pennywire-guard-'))
afterAll(() => rmSync(folder, { recursive: true }))

const isGone = (pid: number) => {
  try {
    process.kill(-pid, 0)
    return false
  } catch {
    return true
  }
}

const idle = (
  name: string,
  order = 0,
  script = 'setInterval(() => {}, 1000); console.log("up")',
): Command => ({
  name,
  file: process.execPath,
  args: ['-e', script],
  logFile: join(folder, `${name}.log`),
  order,
})
const atOnce = { isReady: async () => true, readyWithinMs: 5_000 }

test('everything stops in order, and the data folder is free again', async () => {
  const said: string[] = []
  const dataDir = join(folder, 'in-order')
  const guard = await startGuard(dataDir, line => said.push(line))
  await startProcess(guard, { ...idle('last', 2), ...atOnce })
  await startProcess(guard, { ...idle('first', 0), ...atOnce })
  await startProcess(guard, { ...idle('second', 1), ...atOnce })
  expect(lockDataFolder(dataDir)).toBeUndefined()
  await expect(startGuard(dataDir, () => {})).rejects.toThrow(
    `A stack already runs on ${dataDir} (process ${process.pid})`,
  )
  await guard.stop()
  expect(said).toEqual(['stopping first ...', 'stopping second ...', 'stopping last ...'])
  lockDataFolder(dataDir)!()
})

test('when the parent is killed, its children end, and the data folder is free again', async () => {
  const dataDir = join(folder, 'killed')
  const script = join(folder, 'parent.ts')
  writeFileSync(
    script,
    `import { startGuard } from '${import.meta.dirname}/connect-guard.ts'
     import { startProcess } from '${import.meta.dirname}/managed-process.ts'
     const guard = await startGuard('${dataDir}', () => {})
     const child = await startProcess(guard, ${JSON.stringify({ ...idle('orphan'), readyWithinMs: 5_000 }).slice(0, -1)}, isReady: async () => true })
     console.log(child.pid)`,
  )
  const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [pid] = await once(createInterface({ input: parent.stdout }), 'line')
  expect(isGone(Number(pid))).toBe(false)
  parent.kill('SIGKILL')
  let unlock: (() => void) | undefined
  const isFree = async () => {
    unlock = lockDataFolder(dataDir)
    return unlock !== undefined
  }
  await waitUntil('the data folder', isFree, { deadlineMs: 10_000 })
  unlock!()
  await waitUntil('the end of the child', async () => isGone(Number(pid)), { deadlineMs: 10_000 })
})

test('a process that ends before it is ready is told with its last log lines, at once', async () => {
  const guard = await startGuard(join(folder, 'failing'), () => {})
  const failing = idle('failing', 0, 'console.log("no such topic"); process.exit(3)')
  await expect(
    startProcess(guard, { ...failing, isReady: async () => false, readyWithinMs: 60_000 }),
  ).rejects.toThrow(/failing ended with code 3 before it was ready; .*\n {4}no such topic/)
  const silent = idle('silent')
  await expect(
    startProcess(guard, { ...silent, isReady: async () => false, readyWithinMs: 1_000 }),
  ).rejects.toThrow(/silent: not there after 1 s; .*\n {4}up/)
  await expect(runToEnd(guard, failing)).rejects.toThrow(/failing ended with code 3; .*\n {4}no such topic/)
  await expect(runToEnd(guard, { ...failing, file: '/no/such/program' })).rejects.toThrow(/does not start/)
  await guard.stop()
})

test('a process restarts after a kill, and in an orderly way', async () => {
  const guard = await startGuard(join(folder, 'restarts'), () => {})
  const child = await startProcess(guard, { ...idle('restarted'), ...atOnce })
  const first = child.pid
  child.kill('SIGKILL')
  expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' })
  await child.restart()
  const second = child.pid
  expect(second).not.toBe(first)
  await child.restart()
  expect(child.pid).not.toBe(second)
  expect(isGone(second)).toBe(true)
  await guard.stop()
  expect(isGone(child.pid)).toBe(true)
})
