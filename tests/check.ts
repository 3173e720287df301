// The static checks: format and lint, types, unused code. `npm run check`.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const bin = (name: string) => join(import.meta.dirname, '..', 'node_modules', '.bin', name)

const CHECKS: Array<[what: string, command: string, ...args: string[]]> = [
  ['format and lint', 'biome', 'ci', '--colors=off', '.'],
  ['types', 'tsc', '-p', '.'],
  ['unused code', 'knip', '--no-progress'],
]

/** Runs all checks, prints the output of those that fail, and returns both counts. */
export const check = (): { passed: number; failed: number } => {
  let failed = 0
  for (const [what, command, ...args] of CHECKS) {
    const { status, stdout, stderr } = spawnSync(bin(command), args, { encoding: 'utf8' })
    if (status === 0) continue
    failed++
    console.error(`${what} (${command}):\n${stdout}${stderr}`)
  }
  return { passed: CHECKS.length - failed, failed }
}

if (import.meta.main) {
  const { failed } = check()
  if (failed > 0) process.exit(1)
  console.log(CHECKS.map(([what]) => what).join(', '), 'are fine')
}
