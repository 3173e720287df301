import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Guard } from '../connect-guard.ts'
import { takeLock } from '../data-lock.ts'
import { runToEnd } from '../managed-process.ts'
import { findOnPath } from './find-on-path.ts'

const root = join(import.meta.dirname, '..', '..', '..', '..')
const pom = join(import.meta.dirname, '..', '..', 'pom.xml')

const artifacts = {
  kafka: { title: 'Kafka', size: '43 MB', goal: 'copy-dependencies' },
  registry: { title: 'Schema registry', size: '142 MB', goal: 'unpack-dependencies' },
  redis: { title: 'Redis', size: '10 MB', goal: 'unpack-dependencies' },
} as const

export type Artifact = keyof typeof artifacts

// Named by the pom's content: another version has another folder, and an existing folder is always complete.
const artifactFolder = (artifact: Artifact) => {
  const cache = process.env.PENNYWIRE_CACHE ?? join(root, 'node_modules', '.cache', 'pennywire')
  const version = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 12)
  return join(cache, version, artifact)
}

/** Throws one line with the package to install if an artifact must be fetched and Maven is missing. */
export const assertFetchable = (artifact: Artifact): void => {
  if (existsSync(artifactFolder(artifact)) || findOnPath('mvn')) return
  throw new Error(
    `${artifacts[artifact].title} is fetched with Maven the first time, and there is no mvn: install Maven 3.6 or newer (Debian and Ubuntu: apt install maven; macOS: brew install maven).`,
  )
}

// Several stacks may start at once, and Maven's own repository does not support two writers.
const lockMaven = async () => {
  for (;;) {
    const unlock = takeLock(join(homedir(), '.m2'), 'pennywire.lock')
    if (unlock) return unlock
    await sleep(200)
  }
}

/**
 * The folder with an artifact's files. Maven fetches it the first time; afterwards neither Maven nor the network is
 * used.
 */
export const fetchArtifact = async (
  artifact: Artifact,
  { guard, logFile, report }: { guard: Guard; logFile: string; report: (line: string) => void },
): Promise<string> => {
  const folder = artifactFolder(artifact)
  if (existsSync(folder)) return folder
  const unlock = await lockMaven()
  try {
    if (existsSync(folder)) return folder
    const { title, size, goal } = artifacts[artifact]
    report(`${title}: downloading (${size}, once) ...`)
    mkdirSync(join(folder, '..'), { recursive: true })
    const draft = mkdtempSync(`${folder}.`)
    try {
      await runToEnd(guard, {
        name: `Maven (${title})`,
        file: 'mvn',
        args: [
          ...['-B', '-ntp', '-f', pom, '-P', artifact, `dependency:${goal}`, `-DoutputDirectory=${draft}`],
          // Otherwise Maven records beside the pom what it has unpacked, and does not unpack it to another folder.
          `-DmarkersDirectory=${draft}`,
        ],
        logFile,
        order: 0,
      })
      renameSync(draft, folder)
    } catch (error) {
      rmSync(draft, { recursive: true, force: true })
      throw error
    }
    return folder
  } finally {
    unlock()
  }
}
