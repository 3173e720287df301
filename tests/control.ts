import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { ManagedProcess } from '@pennywire/stack/managed-process.ts'
import type { Server } from '@pennywire/stack/stack.ts'
import { type Service, type System, services } from '@pennywire/stack/system.ts'

const SIGNALS = ['SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGTERM'] as const

/**
 * Lets test files, which run in separate processes, control the system's processes:
 * `POST /ledger/SIGKILL` sends a signal. `POST /ledger/stop` stops the ledger in an orderly way. `POST /ledger/restart`
 * starts it again and answers when it is ready. `POST /ledger/start` starts a further instance, with the body's
 * settings over the usual ones, and answers with its name (for the other actions) and URLs.
 */
export const startControl = async (system: System): Promise<{ url: string; stop: () => Promise<void> }> => {
  const instances = new Map<string, ManagedProcess>()
  const isService = (name: string): name is Service => (services as readonly string[]).includes(name)
  const processOf = (name: string): ManagedProcess => {
    const instance = instances.get(name)
    if (instance) return instance
    return isService(name) ? system.service(name) : system.stack.process(name as Server)
  }

  const startInstance = async (name: string, request: IncomingMessage) => {
    if (!isService(name)) throw new Error(`${name} is no service`)
    const body = await text(request)
    const { process, url, opsUrl } = await system.startInstance(name, body === '' ? {} : JSON.parse(body))
    instances.set(process.name, process)
    return { name: process.name, url, opsUrl }
  }

  const act = async (request: IncomingMessage): Promise<object | undefined> => {
    const [, name = '', action = ''] = (request.url ?? '').split('/')
    if (action === 'start') return startInstance(name, request)
    const target = processOf(name)
    const signal = SIGNALS.find(known => known === action)
    if (signal) {
      target.kill(signal)
      if (signal === 'SIGKILL') await target.exited
    } else if (action === 'stop') await target.stop()
    else if (action === 'restart') await target.restart()
    else throw new Error(`unknown action ${action}`)
    return undefined
  }

  const server = createServer((request, response) => {
    act(request).then(
      answer => response.writeHead(answer ? 200 : 204).end(answer && JSON.stringify(answer)),
      error => response.writeHead(500).end(error instanceof Error ? error.message : String(error)),
    )
  })
  // No timeout: a restart request lasts as long as the server's start.
  server.requestTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
