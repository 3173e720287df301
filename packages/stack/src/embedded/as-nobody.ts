import { chownSync, lchownSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { findOnPath } from './find-on-path.ts'

const NOBODY = 65_534
const isRoot = process.getuid?.() === 0

/**
 * The capability that a server keeps when it is not root: it may traverse other users' folders, because a clone below a
 * 0700 folder (/root, a `mktemp -d`) is normal. `read` lets it read there, `override` write as well.
 */
type Right = 'read' | 'override'
const CAPABILITY: Record<Right, string> = { read: 'dac_read_search', override: 'dac_override' }

/** Throws one line with the package to install if servers cannot be started as nobody. */
export const assertNotRoot = (): void => {
  if (isRoot && !findOnPath('setpriv'))
    throw new Error(
      'Servers do not run as root, and setpriv, which starts them as nobody, is not there: run Pennywire as another user, or install util-linux (Debian and Ubuntu: apt install util-linux).',
    )
}

/**
 * Wraps a command so that it runs as nobody if this process is root. Without the securebit access(2) would ignore the
 * kept capability, and Postgres calls access(2) on its own binary.
 */
export const asNobody = (
  file: string,
  args: string[],
  right: Right = 'read',
): { file: string; args: string[] } => {
  if (!isRoot) return { file, args }
  const capability = `+${CAPABILITY[right]}`
  return {
    file: 'setpriv',
    args: [
      ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
      ...[`--inh-caps=${capability}`, `--ambient-caps=${capability}`, '--securebits=+no_setuid_fixup'],
      ...[file, ...args],
    ],
  }
}

const chownAll = (folder: string) => {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) chownAll(path)
    else lchownSync(path, NOBODY, NOBODY)
  }
  chownSync(folder, NOBODY, NOBODY)
}

/** A server's own folder: created if it is missing, and owned by nobody, including all files of an earlier version. */
export const ownFolder = (folder: string): string => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (isRoot && statSync(folder).uid !== NOBODY) chownAll(folder)
  return folder
}

/** Makes the server's user the owner of a file that this process wrote. */
export const giveToServer = (path: string): void => {
  if (isRoot) chownSync(path, NOBODY, NOBODY)
}
