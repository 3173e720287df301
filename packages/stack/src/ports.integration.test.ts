import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { assertPortsFree, findFreePort } from './ports.ts'

test('free ports are distinct and can be listened on', async () => {
  const ports = await Promise.all(Array.from({ length: 20 }, findFreePort))
  expect(new Set(ports).size).toBe(20)
  await assertPortsFree({ kafka: ports[0]!, redis: ports[1]! })
})

test('a taken port is named with its setting', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await expect(assertPortsFree({ kafka: port })).rejects.toThrow(
    `KAFKA_PORT=${port} is taken: stop what uses port ${port}, or set KAFKA_PORT to another port.`,
  )
  server.close()
})
