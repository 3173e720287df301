// The money path of the services, run unchanged by a seeded simulator: clients, gateways, ledgers, faults.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const script = join(import.meta.dirname, '..', '..', 'simulator', 'run.ts')
const simulate = (...args: string[]): string => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
  if (stdout === '') throw new Error(`the simulation said nothing (status ${status}): ${stderr}`)
  return stdout
}
const lastOf = (output: string) => JSON.parse(output.trim().split('\n').at(-1)!)

test('M1 to M4, X1 to X3, O1, O2: a million steps under faults break no promise', () => {
  const { taken, seed, promise, message } = lastOf(simulate('--json', '--seeds', '160', '--steps', '5000'))
  expect([seed, promise, message]).toEqual([undefined, undefined, undefined])
  expect(taken).toBeGreaterThan(1_000_000)
}, 240_000)

test('a seed is replayed exactly', () => {
  const trace = () => /seed 7: .*/.exec(simulate('--seed', '7', '--steps', '3000'))?.[0]
  expect(trace()).toBe(trace())
  expect(trace()).toContain('trace ')
}, 60_000)

test.each([
  ['no-fence', 'X1'],
  ['offset-stored-before', 'X1'],
  ['mark-before-acknowledgement', 'O1'],
  ['mark-raised-on-failure', 'O1'],
])(
  'a planted bug is found: %s breaks %s',
  (bug, promise) => {
    const found = lastOf(simulate('--json', '--bug', bug, '--seeds', '40', '--steps', '5000'))
    expect(found.promise).toBe(promise)
  },
  120_000,
)
