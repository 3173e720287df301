// The short form of the fault suite, on the stack that all tests share; `npm run test:faults` runs all faults.
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import {
  connectionsTerminated,
  cutAtCommit,
  everyCommandAgain,
  type Fault,
  oneOfThreeLedgersKilled,
  secondLedgerFromZero,
} from './faults/faults.ts'
import { type FaultReport, openSuite, type Suite } from './faults/run-fault.ts'
import { sumOfKinds, tableOf } from './faults/table.ts'
import { openWorld, type World } from './faults/world.ts'

let world: World
let suite: Suite
let secondGateway: string
const reports: FaultReport[] = []

beforeAll(async () => {
  world = await openWorld(inject('stack'), inject('system'))
  const { name, url, opsUrl } = await world.startInstance('gateway')
  secondGateway = name
  world.gateways.push(url)
  world.opsUrls.push(opsUrl)
  suite = await openSuite(world, { people: 12, clients: 24 })
}, 60_000)
afterAll(async () => {
  console.log(tableOf(reports))
  await suite.stop()
  await world.control(secondGateway, 'stop')
  await world.close()
}, 60_000)

test.each<{ promises: string; fault: Fault }>([
  { promises: 'X1, X2, O1, O2', fault: oneOfThreeLedgersKilled },
  { promises: 'X1, O1', fault: cutAtCommit(3) },
  { promises: 'X2, X3', fault: connectionsTerminated(2) },
  { promises: 'X1, M4', fault: secondLedgerFromZero(1) },
  { promises: 'X1, O2', fault: everyCommandAgain },
])(
  '$promises: nothing is broken by: $fault.name',
  async ({ fault }) => {
    const report = await suite.run(fault)
    reports.push(report)
    expect(report.violations).toEqual([])
    expect(report.answers.completed).toBeGreaterThan(0)
  },
  240_000,
)

test('all that money can do was done meanwhile', () => {
  const done = [...sumOfKinds(reports)].filter(([, counts]) => counts.done > 0).map(([kind]) => kind)
  expect(done.sort()).toEqual([
    ...['capture', 'close', 'deposit', 'freeze', 'hold', 'limit', 'open', 'reversal', 'transfer'],
    ...['unfreeze', 'void', 'withdrawal'],
  ])
})
