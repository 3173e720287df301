// `npm run simulate:mutations`: plants one bug after the other and shows that the simulation finds each. Exits with an
// error if one survives, or if a bug no longer fits the source. Arguments select bugs by name.
import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { checkPlantedBugs } from './plant.ts'
import { PLANTED_BUGS } from './planted-bugs.ts'

type Found = {
  seed?: number
  step?: number
  promise?: string
  message?: string
  taken: number
  seconds: number
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: 'string', default: '200' }, steps: { type: 'string', default: '8000' } },
})
checkPlantedBugs()

/**
 * Runs each bug in its own process, so that the changed source is loaded once and gone with the process. The process
 * ends at the first seed that finds the bug.
 */
const run = async (bug: string): Promise<Found> => {
  const found = await simulate(bug, '--seeds', values.seeds, '--bug', bug)
  if (found.seed !== undefined) await checkClean(found.seed)
  return found
}

/** A seed that breaks a promise without the bug does not prove that the bug was found. */
const clean = new Map<number, Promise<Found>>()
const checkClean = async (seed: number): Promise<void> => {
  if (!clean.has(seed)) clean.set(seed, simulate(`seed ${seed}`, '--seed', String(seed)))
  const { promise, message } = await clean.get(seed)!
  if (promise !== undefined) throw new Error(`seed ${seed} breaks without any bug: ${message}`)
}

const simulate = async (what: string, ...options: string[]): Promise<Found> => {
  const script = join(import.meta.dirname, 'run.ts')
  const args = [script, '--json', '--steps', values.steps, ...options]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
  try {
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as Found
  } catch {
    throw new Error(`${what}: the simulation did not answer:\n${stdout}${stderr}`)
  }
}

const line = (...cells: [string, string, string, string, string]) =>
  console.log(
    `${cells[0].padEnd(28)}${cells[1].padStart(5)}${cells[2].padStart(9)}  ${cells[3].padEnd(6)}${cells[4]}`,
  )

const unknown = positionals.filter(asked => !PLANTED_BUGS.some(({ name }) => name === asked))
if (unknown.length > 0) throw new Error(`no such bug: ${unknown.join(', ')}`)
const chosen = PLANTED_BUGS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const found: Promise<Found>[] = []
const begun = performance.now()
/** Takes the next bug as soon as the last is done; the table keeps the order of the list. */
const work = async (): Promise<void> => {
  while (found.length < chosen.length) {
    const result = run(chosen[found.length]!.name)
    found.push(result)
    await result
  }
}
const working = Array.from({ length: availableParallelism() }, work)

const survivors: string[] = []
line('planted bug', 'seed', 'steps', 'found', 'as')
for (const [index, { name, what }] of chosen.entries()) {
  while (found.length <= index) await Promise.race(found.slice(-availableParallelism()))
  const { seed, promise, message, taken } = await found[index]!
  if (seed === undefined) {
    survivors.push(name)
    line(name, '-', String(taken), 'NO', what)
  } else
    line(
      name,
      String(seed),
      String(taken),
      promise ?? '',
      (message ?? '').replace(`${promise}: `, '').slice(0, 120),
    )
}
await Promise.all(working)

const seconds = Math.round((performance.now() - begun) / 1_000)
console.log(
  `\n${chosen.length - survivors.length} of ${chosen.length} planted bugs were found in ${seconds} s.`,
)
console.log(`See one: npm run simulate -- --bug NAME --seed SEED --steps ${values.steps}`)
if (survivors.length > 0) console.error(`Not found: ${survivors.join(', ')}`)
process.exitCode = survivors.length > 0 ? 1 : 0
