import { systemClock } from '@pennywire/runtime/clock.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, test, vi } from 'vitest'
import { startReloadingKeys } from './reload-keys.ts'
import type { JwtKey } from './tokens.ts'

const logger = createLogger('gateway', { level: 'silent', instance: 'test' })
const key = (kid: string) => ({ kty: 'RSA', kid }) as JwtKey

test('changed keys are taken once; a file that cannot be used changes nothing, and is tried again', async () => {
  let file: () => JwtKey[] = () => [key('one')]
  const used: string[] = []
  let reads = 0
  const reloading = startReloadingKeys({
    read: () => {
      reads++
      return file()
    },
    use: async keys => void used.push(keys.map(({ kid }) => kid).join(' ')),
    everyMs: 1,
    clock: systemClock,
    logger,
  })
  const readAgain = async () => {
    const before = reads
    await vi.waitFor(() => expect(reads).toBeGreaterThan(before + 2))
  }
  await readAgain()
  expect(used).toEqual([])
  file = () => {
    throw new Error('is not JSON')
  }
  await readAgain()
  expect(used).toEqual([])
  file = () => [key('two'), key('one')]
  await readAgain()
  expect(used).toEqual(['two one'])
  await reloading.stop()
})
