// A disk that can be filled: a tmpfs in this run's own mount namespace, which the kernel removes with its last process.
// If a machine allows no namespace, the fault is skipped and the output states this.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault } from './faults.ts'
import { until } from './world.ts'

const INSIDE = 'PENNYWIRE_FAULTS_NAMESPACE'
/** A tmpfs takes memory only for written data. */
const ROOMY = 'size=4g'

const unshareArgs = () =>
  process.getuid?.() === 0
    ? ['--mount', '--propagation', 'private']
    : ['--user', '--map-current-user', '--keep-caps', '--mount', '--propagation', 'private']

/** Runs this script again in its own namespace; returns false if that is impossible or already done. */
export const enterNamespace = (): boolean => {
  if (process.env[INSIDE]) return false
  const probe = ['sh', '-c', 'mount -t tmpfs none /mnt']
  if (spawnSync('unshare', [...unshareArgs(), ...probe]).status !== 0) return false
  const child = spawn('unshare', [...unshareArgs(), process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  child.on('exit', code => process.exit(code ?? 1))
  return true
}

/** Mounts a tmpfs at the folder; returns false if this run has no namespace or the mount fails. */
export const mountDisk = (folder: string): boolean => {
  if (!process.env[INSIDE]) return false
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `${ROOMY},mode=0700`, 'none', folder]).status === 0
}

export const unmountDisk = (folder: string): void => {
  if (process.env[INSIDE]) spawnSync('umount', [folder])
}

const remount = (folder: string, size: string): boolean =>
  spawnSync('mount', ['-o', `remount,${size}`, folder]).status === 0

const usedKib = (folder: string): number => {
  const { stdout } = spawnSync('df', ['--output=used', '-k', folder], { encoding: 'utf8' })
  return Number(stdout.trim().split('\n').at(-1))
}

/** No free space for Postgres: it may refuse writes or crash, and recovers once there is space. */
export const diskFull = (folder: string, seconds: number): Fault => ({
  name: `Postgres: disk full for ${seconds} s`,
  inject: async (world, { load, over }) => {
    const { servedSince } = load
    // Retried, because the used space may grow between the measurement and the remount.
    await until('the disk is full', 30, () => remount(folder, `size=${usedKib(folder) + 64}k`))
    const from = performance.now()
    // The last WAL file and the tables' pages still have free space: Postgres continues for a while.
    await until('writes to fail', 60, async () => {
      const { rows } = await probe(world)
      return !rows
    })
    await sleep(1_000 * seconds)
    if (servedSince(from + 1_000 * seconds)) throw new Error('the disk was full, and nobody noticed')
    remount(folder, ROOMY)
    // A crash during a WAL write ends Postgres for good: restart it, as its supervisor would.
    const alive = await until('Postgres', 3, async () => (await probe(world)).rows).then(
      () => true,
      () => false,
    )
    if (!alive) await world.control('postgres', 'restart')
    over()
    return 1
  },
})

/** Whether a table can grow now. */
const probe = async ({ sql }: Parameters<Fault['inject']>[0]): Promise<{ rows: boolean }> => {
  try {
    await sql.begin(async tx => {
      await tx`create table fault_probe as select repeat('x', 1000) as filler from generate_series(1, 2000)`
      await tx`drop table fault_probe`
    })
    return { rows: true }
  } catch {
    return { rows: false }
  }
}
