// A seeded simulator runs the unchanged money path of the services: clients, gateways, ledgers, provider, faults.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkPlantedBugs } from '../../simulator/plant.ts'

const script = (name: string) => join(import.meta.dirname, '..', '..', 'simulator', name)
const simulate = (...args: string[]): string => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [script('run.ts'), ...args], {
    encoding: 'utf8',
  })
  if (stdout === '') throw new Error(`the simulation said nothing (status ${status}): ${stderr}`)
  return stdout
}
const lastOf = (output: string) => JSON.parse(output.trim().split('\n').at(-1)!)

/** Faults that a million steps must include: if one is never injected, its guarantees go untested unnoticed. */
const FAULTS = [
  ...['answer to commit lost', 'broker away', 'commands that no gateway signed', 'connection lost'],
  ...['database goes back', 'database killed', 'everything slow', 'gateway killed', 'gateway paused'],
  ...['ledger killed', 'ledger paused', 'ledger stopped', 'old command sent again'],
  ...['one partition refuses', 'one partition refuses while all else is well'],
  ...['payment goes back to its beginning', 'record that cannot be read', 'the calendar leaps'],
  ...["the database's clock steps back", 'record that only the database refuses'],
  ...['decided records deleted', 'undecided records deleted'],
  ...['topic made anew', 'writes are slow', 'books caught up by their events'],
]

test('M1 to M4, X1 to X3, O1, O2: a million steps under faults break no promise', () => {
  const { taken, seed, promise, message, faults } = lastOf(
    simulate('--json', '--seeds', '120', '--steps', '5000'),
  )
  expect([seed, promise, message]).toEqual([undefined, undefined, undefined])
  expect(taken).toBeGreaterThan(1_000_000)
  expect(FAULTS.filter(fault => !(faults[fault] > 0))).toEqual([])
}, 240_000)

test('a seed is replayed exactly', () => {
  const trace = () => /seed 7: .*/.exec(simulate('--seed', '7', '--steps', '3000'))?.[0]
  expect(trace()).toBe(trace())
  expect(trace()).toContain('trace ')
}, 60_000)

test('every planted bug still fits the source', () => expect(checkPlantedBugs).not.toThrow())

test('planted bugs are found; all of them by npm run simulate:mutations', () => {
  const bugs = [
    ...['no-fence', 'no-gap-check', 'offset-stored-before', 'relay-over-hole-inside'],
    ...['mark-before-acknowledgement', 'locks-in-request-order', 'balances-before-lock'],
    ...['duplicate-check-last', 'waiter-woken-for-another', 'catch-up-reads-on-too-early'],
  ]
  const { stdout, stderr, status } = spawnSync(process.execPath, [script('mutations.ts'), ...bugs], {
    encoding: 'utf8',
  })
  expect(stdout).toContain(`${bugs.length} of ${bugs.length} planted bugs were found`)
  expect([stderr, status]).toEqual(['', 0])
}, 240_000)
