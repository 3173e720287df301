// The local stack may be started by any user, root included: none of its servers runs as root.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { expect, inject, test } from 'vitest'

test.runIf(process.getuid?.() === 0)('no server runs as root', () => {
  const { dataDir } = inject('stack')
  const uids = readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .flatMap(pid => {
      try {
        const inside = ['kafka', 'registry', 'postgres'].some(name =>
          readlinkSync(`/proc/${pid}/cwd`).startsWith(`${dataDir}/${name}`),
        )
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        const [, uid] = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!
        const isServer = inside || command.includes(`${dataDir}/redis`)
        return isServer ? [uid] : []
      } catch {
        return [] // it ended meanwhile
      }
    })
  expect(uids.length).toBeGreaterThanOrEqual(3)
  expect(uids).not.toContain('0')
})
