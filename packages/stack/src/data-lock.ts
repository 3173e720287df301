import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/**
 * Takes a file lock for this process and returns its release function, or undefined if another process holds it.
 * SQLite's file lock is used because the operating system drops it however its holder dies: a file with a process id in
 * it would go stale.
 */
export const takeLock = (folder: string, file: string): (() => void) | undefined => {
  mkdirSync(folder, { recursive: true })
  const lock = new DatabaseSync(join(folder, file))
  try {
    lock.exec('begin exclusive')
    return () => lock.close()
  } catch (error) {
    lock.close()
    if ((error as { errcode?: number }).errcode === 5) return undefined
    throw error
  }
}

/** One stack per data folder; its guard holds this until the last child is gone. */
export const lockDataFolder = (dataDir: string) => takeLock(dataDir, 'stack.lock')
