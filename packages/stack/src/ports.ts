import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/** The settings that name a port; every other port is a free one. */
export const portSettings = {
  gateway: 'GATEWAY_PORT',
  mailHttp: 'MAIL_HTTP_PORT',
  kafka: 'KAFKA_PORT',
  registry: 'REGISTRY_PORT',
  postgres: 'POSTGRES_PORT',
  redis: 'REDIS_PORT',
} as const

export type PortName = keyof typeof portSettings
export type Ports = Partial<Record<PortName, number>>

const isFree = (port: number) =>
  new Promise<boolean>(resolve => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })

const given = new Set<number>()

/**
 * A free port on loopback. It lies below the range from which systems take the local ports of outgoing connections, so
 * that a server that is killed and started again finds its port still free.
 */
export const findFreePort = async (): Promise<number> => {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(20_000, 32_000)
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    return port
  }
  throw new Error('No free port was found on 127.0.0.1 between 20000 and 32000.')
}

/** Throws one line that names the first port which something else uses, and the setting to change it. */
export const assertPortsFree = async (ports: Ports): Promise<void> => {
  for (const [name, port] of Object.entries(ports) as [PortName, number][]) {
    const setting = portSettings[name]
    if (!(await isFree(port)))
      throw new Error(
        `${setting}=${port} is taken: stop what uses port ${port}, or set ${setting} to another port.`,
      )
  }
}
