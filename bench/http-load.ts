import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { LoadJob, LoadResult } from './load-generator.ts'

/** Runs a load in a process of its own, which ends with this one. */
export const runLoad = async (job: LoadJob): Promise<LoadResult> => {
  const child = fork(join(import.meta.dirname, 'load-generator.ts'))
  try {
    child.send(job)
    const answer = await Promise.race([
      once(child, 'message').then(([message]) => message as { result?: LoadResult; error?: string }),
      once(child, 'exit').then(([code]) => ({ error: `it ended with code ${code}`, result: undefined })),
    ])
    if (!answer.result) throw new Error(`the load generator failed: ${answer.error}`)
    return answer.result
  } finally {
    child.disconnect()
  }
}
