// For tests of the pool: a worker that runs the given work.
import { setTimeout as sleep } from 'node:timers/promises'
import { serveWork } from '@pennywire/runtime/worker-pool.ts'

export type TestWork =
  | { kind: 'double'; value: number }
  | { kind: 'fail' | 'spin' | 'eat' | 'exit' }
  | { kind: 'sleep'; ms: number }

serveWork(async (work: TestWork): Promise<number> => {
  if (work.kind === 'double') return work.value * 2
  if (work.kind === 'fail') throw new Error('this is no number')
  if (work.kind === 'exit') process.exit(3)
  if (work.kind === 'sleep') {
    await sleep(work.ms)
    return work.ms
  }
  const eaten: number[][] = []
  for (;;) if (work.kind === 'eat') eaten.push(Array.from({ length: 100_000 }, Math.random))
})
