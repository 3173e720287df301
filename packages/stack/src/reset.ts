// `npm run reset`: removes the local system's data, so that it begins anew.
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { lockDataFolder } from './data-lock.ts'
import { readSettings } from './read-settings.ts'

const reset = (dataDir: string) => {
  if (!existsSync(dataDir)) return `There is no ${dataDir}: nothing to remove.`
  // A typo in PENNYWIRE_DATA must not delete a user's other files.
  if (!existsSync(join(dataDir, 'stack.lock')))
    throw new Error(`${dataDir} holds no stack's data; nothing was removed.`)
  const unlock = lockDataFolder(dataDir)
  if (!unlock) throw new Error(`A stack runs on ${dataDir}: stop it first; nothing was removed.`)
  rmSync(dataDir, { recursive: true })
  unlock()
  return `Removed ${dataDir}: the next start begins with nothing but the downloads.`
}

try {
  console.log(reset(readSettings(process.env).dataDir))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
