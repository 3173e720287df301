// `npm run reset`: removes the local system's data, so that it begins anew.
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { lockDataFolder } from './data-lock.ts'
import { readSettings } from './read-settings.ts'

beginCommand(`usage: npm run reset

Removes all data of the local system, its keys included, so that the next start begins anew. Asks nothing. It refuses while
a stack runs on the data, and where the folder is none of a stack's. Setting: PENNYWIRE_DATA, the folder (.pennywire).

  --help  Writes this, and removes nothing.

Exit codes: 0 removed, or there was nothing; 1 refused; 2 wrong options.
Example: npm run reset`)

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
  process.exitCode = EXIT.wrong
}
