import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Server } from '@pennywire/stack/stack.ts'
import { type Service, type System, services } from '@pennywire/stack/system.ts'

const SIGNALS = ['SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGTERM'] as const

/**
 * Lets test files, which run in processes of their own, do things to the system's processes:
 * `POST /ledger/SIGKILL` sends a signal, `POST /ledger/restart` starts it again and answers when it is ready.
 */
export const startControl = async (system: System): Promise<{ url: string; stop: () => Promise<void> }> => {
  const processOf = (name: string) =>
    (services as readonly string[]).includes(name)
      ? system.service(name as Service)
      : system.stack.process(name as Server)

  const server = createServer((request, response) => {
    const [, name = '', action = ''] = (request.url ?? '').split('/')
    const act = async () => {
      const target = processOf(name)
      const signal = SIGNALS.find(known => known === action)
      if (signal) {
        target.kill(signal)
        if (signal === 'SIGKILL') await target.exited
      } else if (action === 'restart') await target.restart()
      else throw new Error(`unknown action ${action}`)
    }
    act().then(
      () => response.writeHead(204).end(),
      error => response.writeHead(500).end(String(error)),
    )
  })
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
