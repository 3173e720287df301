// `npm run test:hostile`: starts its own system and runs one attack after the other against a gateway, each beside an
// honest client that pays. Words after `--` select attacks by name. Exits with 1 if a payment fails or takes too long,
// or if the gateway uses too much memory. It takes about eight minutes and stops by itself.
import { openWorld } from '../faults/world.ts'
import { runOnSystem } from '../run-on-system.ts'
import { ATTACKS } from './attacks.ts'
import { MEMORY_BOUND_MIB, medianOf, runAttacks, setScene, tableOf } from './run-attacks.ts'

const SECONDS_EACH = 30
const SCALE = 10
const HISTORY = 1_000
/** Bounds: on the median payment, on each sign-in, and on the slowest payment. */
const PAYMENT_MEDIAN_MS = 1_000
const SIGN_IN_MS = 3_000
const PAYMENT_SLOWEST_MS = 10_000

const words = process.argv.slice(2)
const chosen = ATTACKS.filter(({ name }) => words.length === 0 || words.some(word => name.includes(word)))
if (chosen.length === 0) {
  console.log(`No attack has a name with ${words.join(' or ')} in it; there are:`)
  for (const { name } of ATTACKS) console.log(`    ${name}`)
  process.exit(2)
}

// The honest client's step-up token is valid for the whole run.
const settings = { STEP_UP_SECONDS: '1200' }
await runOnSystem({ withinMinutes: 20, settings }, async ({ stack, system }) => {
  const world = await openWorld(stack, system)
  const scene = await setScene(world, HISTORY)
  console.log(`${chosen.length} attacks of ${SECONDS_EACH} s each; a line for each as it is over`)
  const reports = await runAttacks(scene, { scale: SCALE }, SECONDS_EACH, chosen, line => console.log(line))
  await world.close()
  console.log(`\n${tableOf(reports)}\n`)
  const bad = reports.filter(
    ({ payments, signIns, memoryMiB }) =>
      payments.failures.length + signIns.failures.length > 0 ||
      medianOf(payments.ms) > PAYMENT_MEDIAN_MS ||
      Math.max(...payments.ms) > PAYMENT_SLOWEST_MS ||
      signIns.ms.some(ms => ms > SIGN_IN_MS) ||
      memoryMiB > MEMORY_BOUND_MIB,
  )
  for (const { attack, payments, signIns } of bad) {
    const failures = new Set([...payments.failures, ...signIns.failures])
    console.log(`NOT HELD under ${attack}${failures.size > 0 ? `: ${[...failures].join(', ')}` : ''}`)
  }
  return bad.length === 0 ? 0 : 1
})
