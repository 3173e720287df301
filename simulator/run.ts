// Runs the simulation. One seed again, exactly: `npm run simulate -- --seed 123 --steps 20000`; many seeds:
// `npm run simulate -- --seeds 100 --from 1`. With `--bug NAME` a bug is planted first (planted-bugs.ts).
import { parseArgs } from 'node:util'
import { plant } from './plant.ts'
import type { SimulationFailure } from './simulate.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '50' },
    from: { type: 'string', default: '1' },
    steps: { type: 'string', default: '20000' },
    bug: { type: 'string' },
    /** How many lines of the trace a failure prints. */
    trace: { type: 'string', default: '30' },
    /** One line of JSON instead of text: for mutations.ts. */
    json: { type: 'boolean', default: false },
  },
})
const steps = Number(values.steps)
const first = Number(values.seed ?? values.from)
const last = values.seed === undefined ? first + Number(values.seeds) - 1 : first

const isLoaded = values.bug === undefined ? () => true : plant(values.bug)
// Imported only now, so that the bug is planted before.
const { simulate } = await import('./simulate.ts')
if (!isLoaded()) throw new Error(`${values.bug}: the file it changes was not loaded`)

const begun = performance.now()
let taken = 0
let decisions = 0
const faults: Record<string, number> = {}
let failure: SimulationFailure | undefined
for (let seed = first; seed <= last && !failure; seed++) {
  try {
    const result = await simulate({ seed, steps, traceLines: Number(values.trace) })
    taken += result.steps
    decisions += result.decisions
    for (const [what, count] of Object.entries(result.faults)) faults[what] = (faults[what] ?? 0) + count
    if (!values.json) {
      const { traceHash, journalHash, simulatedMs } = result
      console.log(
        `seed ${seed}: ${result.steps} steps, ${result.decisions} decisions, ${Math.round(simulatedMs / 1_000)} s simulated, trace ${traceHash}, journal ${journalHash}`,
      )
    }
  } catch (error) {
    failure = error as SimulationFailure
    taken += failure.step ?? 0
  }
}
const seconds = (performance.now() - begun) / 1_000

if (values.json) {
  const { seed, step, promise, message } = failure ?? {}
  console.log(JSON.stringify({ seed, step, promise, message, taken, seconds, faults }))
} else if (failure) {
  const bug = values.bug === undefined ? '' : ` --bug ${values.bug}`
  console.error(failure.trace?.join('\n'))
  console.error(`\nBroken at step ${failure.step} of seed ${failure.seed}${bug && `, with${bug}`}:`)
  console.error(failure.promise === 'error' ? failure.cause : failure.message)
  console.error(
    `\nSee it again: node bootstrap.mjs simulator/run.ts --seed ${failure.seed} --steps ${steps}${bug}`,
  )
} else {
  console.log(
    `${taken} steps in ${seconds.toFixed(1)} s (${Math.round(taken / seconds)}/s), ${decisions} decisions, all promises held. Faults:`,
  )
  for (const [what, count] of Object.entries(faults).sort())
    console.log(`  ${String(count).padStart(7)}  ${what}`)
}
process.exitCode = failure ? 1 : 0
