// Redis requires a password and has a certificate of our authority; the gateway's user has no administrative commands.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTls } from 'node:tls'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { makeCertificates } from '@pennywire/stack/test-certificates.ts'
import { Redis } from 'ioredis'
import { describe, expect, inject, test } from 'vitest'
import { openRedis } from './redis.ts'

const { redisUrl, gatewayRedisUrl } = inject('stack')
const silent = createLogger('test', { level: 'silent', instance: 'test' })

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
    expect(await asking(gatewayRedisUrl, ...command)).toMatch(/^NOPERM/),
  )
})

test('by TLS its certificate must be of our authority', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pennywire-redis-'))
  const [server, other] = [makeCertificates(folder, 'server'), makeCertificates(folder, 'other')]
  const target = new URL(gatewayRedisUrl)
  const end = createTls(
    { key: readFileSync(server.keyFile), cert: readFileSync(server.certFile) },
    socket => {
      const inner = connect({ host: target.hostname, port: Number(target.port) })
      socket.pipe(inner).pipe(socket)
      for (const one of [socket, inner]) one.on('error', () => {})
    },
  ).on('tlsClientError', () => {})
  await new Promise<void>(resolve => end.listen(0, '127.0.0.1', resolve))
  const { port } = end.address() as AddressInfo
  const url = `rediss://${target.username}:${target.password}@127.0.0.1:${port}`
  const [right, wrong] = [server, other].map(({ ca }) => openRedis(url, silent, ca))
  await new Promise(resolve => right!.once('ready', resolve))
  expect(await right!.ping()).toBe('PONG')
  expect(String(await new Promise(resolve => wrong!.once('error', resolve)))).toMatch(/certificate/)
  right!.disconnect()
  wrong!.disconnect()
  end.close()
  rmSync(folder, { recursive: true })
})

describe('the time limit of a command', () => {
  const block = (ms: number) => {
    for (const from = performance.now(); performance.now() - from < ms; );
  }

  test('a busy event loop is not an unavailable Redis', async () => {
    const redis = openRedis(gatewayRedisUrl, silent)
    await new Promise(resolve => redis.once('ready', resolve))
    const answers = [redis.ping(), redis.exists('none'), redis.exists('none either')]
    block(700)
    setImmediate(() => block(700))
    expect(await Promise.all(answers)).toEqual(['PONG', 0, 0])
    redis.disconnect()
  })

  test('no answer is', async () => {
    const { hostname, port, username, password } = new URL(gatewayRedisUrl)
    let isMute = false
    const proxy = createServer(socket => {
      const inner = connect({ host: hostname, port: Number(port) })
      socket.pipe(inner)
      inner.on('data', data => isMute || socket.write(data))
      for (const one of [socket, inner]) one.on('error', () => {})
      socket.once('close', () => inner.destroy())
    })
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
    const { port: proxyPort } = proxy.address() as AddressInfo
    const redis = openRedis(`redis://${username}:${password}@127.0.0.1:${proxyPort}`, silent)
    await new Promise(resolve => redis.once('ready', resolve))
    isMute = true
    await expect(redis.ping()).rejects.toThrow('Command timed out')
    await expect(redis.exists('none')).rejects.toThrow('Command timed out')
    redis.disconnect()
    proxy.close()
  })
})
