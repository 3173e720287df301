// `npm run simulate:mutations`: plants one bug after the other and shows that the simulation finds each. Ends with an
// error where one survives, or where a bug no longer fits the source. Names as arguments choose some of them.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
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

const run = (...more: string[]): Found => {
  const script = join(import.meta.dirname, 'run.ts')
  const args = [script, '--json', '--seeds', values.seeds, '--steps', values.steps, ...more]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  try {
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as Found
  } catch {
    throw new Error(`the simulation did not answer:\n${stdout}${stderr}`)
  }
}

const chosen = PLANTED_BUGS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const survivors: string[] = []
const line = (...cells: [string, string, string, string, string]) =>
  console.log(
    `${cells[0].padEnd(26)}${cells[1].padStart(6)}${cells[2].padStart(10)}  ${cells[3].padEnd(6)}${cells[4]}`,
  )

line('planted bug', 'seed', 'steps', 'found', 'as')
for (const { name, what } of chosen) {
  const { seed, promise, message, taken } = run('--bug', name)
  if (seed === undefined) {
    survivors.push(name)
    line(name, '-', String(taken), 'NO', what)
  } else
    line(
      name,
      String(seed),
      String(taken),
      promise ?? '',
      (message ?? '').replace(`${promise}: `, '').slice(0, 130),
    )
}

console.log(`\n${chosen.length - survivors.length} of ${chosen.length} planted bugs were found.`)
console.log(`See one: node bootstrap.mjs simulator/run.ts --bug NAME --seed SEED --steps ${values.steps}`)
if (survivors.length > 0) console.error(`Not found: ${survivors.join(', ')}`)
process.exitCode = survivors.length > 0 ? 1 : 0
