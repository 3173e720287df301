// `npm test`: the static checks and every test. They run in two processes at once, each with a stack of its own,
// because a test of the whole system mostly waits. Arguments are passed to vitest: `npm test -- FILE` runs in one.
import { fork } from 'node:child_process'
import { startVitest } from 'vitest/node'
import { check } from './check.ts'

type Counts = { passed: number; failed: number }

const sum = (...all: Counts[]): Counts => ({
  passed: all.reduce((total, { passed }) => total + passed, 0),
  failed: all.reduce((total, { failed }) => total + failed, 0),
})

const runVitest = async (filters: string[], project?: string[]): Promise<Counts> => {
  const vitest = await startVitest('test', filters, { watch: false, run: true, ...(project && { project }) })
  const files = vitest.state.getTestModules()
  const tests = files.flatMap(file => [...file.children.allTests()])
  const count = (state: string) => tests.filter(test => test.result().state === state).length
  // A file that fails to load has no failed tests, but counts as failed; so does an error outside of all files.
  const broken = files.filter(file => file.state() === 'failed' && file.errors().length > 0).length
  const outside = vitest.state.getUnhandledErrors().length
  await vitest.close()
  return { passed: count('passed'), failed: count('failed') + broken + outside }
}

/** What one process runs. The checks and the pure tests come first: meanwhile the other one downloads the servers. */
const LANES: Record<string, () => Promise<Counts>> = {
  system: () => runVitest([], ['system']),
  integration: async () => sum(check(), await runVitest([], ['pure']), await runVitest([], ['integration'])),
}

/** Runs a lane in a process of its own. One that ends without its counts has failed. */
const forkLane = (lane: string): Promise<Counts> =>
  new Promise(resolve => {
    let counts = { passed: 0, failed: 1 }
    fork(import.meta.filename, { env: { ...process.env, TEST_LANE: lane } })
      .on('message', message => {
        counts = message as Counts
      })
      .on('exit', () => resolve(counts))
  })

const lane = process.env.TEST_LANE
if (lane) {
  // The parent has been stopped: the servers end with this process.
  process.on('disconnect', () => process.exit(1))
  process.send?.(await LANES[lane]!(), () => process.exit(0))
} else {
  const filters = process.argv.slice(2)
  const { passed, failed } =
    filters.length > 0
      ? await runVitest(filters)
      : sum(...(await Promise.all(Object.keys(LANES).map(forkLane))))
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed === 0 && passed > 0 ? 0 : 1)
}
