// A disk that can be filled: a small file system in memory, in a mount namespace of this run's own, which the kernel
// takes away with its last process. Where a machine does not allow that, the fault is left out and said to be.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault } from './faults.ts'
import { until } from './world.ts'

const INSIDE = 'PENNYWIRE_FAULTS_NAMESPACE'
/** Only what is written takes memory. */
const ROOMY = 'size=4g'

const unshareArgs = () =>
  process.getuid?.() === 0
    ? ['--mount', '--propagation', 'private']
    : ['--user', '--map-current-user', '--keep-caps', '--mount', '--propagation', 'private']

/** Runs this very script again in a namespace of its own; false where that cannot be or is done already. */
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

/** Mounts a disk for the folder; false where this run has no namespace. */
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

/** Not a byte more for Postgres: it may refuse writes or crash, and comes back when there is room. */
export const diskFull = (folder: string, seconds: number): Fault => ({
  name: `Postgres: disk full for ${seconds} s`,
  inject: async (world, { load, over }) => {
    const { servedSince } = load
    // What is in use grows while it is asked for.
    await until('the disk is full', 30, () => remount(folder, `size=${usedKib(folder) + 64}k`))
    const from = performance.now()
    // Its last log file has room left, and pages of tables have: it goes on for a while.
    await until('writes to fail', 60, async () => {
      const { rows } = await probe(world)
      return !rows
    })
    await sleep(1_000 * seconds)
    if (servedSince(from + 1_000 * seconds)) throw new Error('the disk was full, and nobody noticed')
    remount(folder, ROOMY)
    // A crash in the middle of its log ends Postgres for good; then its supervisor starts it again.
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
