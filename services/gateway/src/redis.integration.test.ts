// Redis takes no stranger's word, and the gateway's user does not rule it.
import { Redis } from 'ioredis'
import { describe, expect, inject, test } from 'vitest'

const { redisUrl } = inject('stack')
const { env } = inject('system')

const asking = async (url: string, ...[command, ...args]: [string, ...string[]]): Promise<string> => {
  const redis = new Redis(url, {
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    enableReadyCheck: false,
  })
  redis.on('error', () => {})
  try {
    return String(await redis.call(command, ...args))
  } catch (error) {
    return (error as Error).message
  } finally {
    redis.disconnect()
  }
}

describe('Redis', () => {
  test('asks for a password', async () =>
    expect(await asking(redisUrl.replace(/\/\/.*@/, '//'), 'PING')).toMatch(/^NOAUTH/))

  test.each([['CONFIG', 'GET', 'dir'], ['FLUSHALL'], ['KEYS', '*'], ['SHUTDOWN'], ['ACL', 'LIST']] as [
    string,
    ...string[],
  ][])('the gateway may not %s', async (...command) =>
    expect(await asking(env.gateway.REDIS_URL!, ...command)).toMatch(/^NOPERM/),
  )
})
