import { parentPort, Worker } from 'node:worker_threads'

/** An idle worker ends after this time: its modules take tens of MiB. */
const IDLE_MS = 60_000

/** Why a pool does not do a work: no place, too much of one subject, too long, or the caller has hung up. */
export type PoolRefusal = 'busy' | 'subject' | 'timeout' | 'gone'

export type WorkerPoolOptions = {
  /** The name in the metric and in the refusals: "statements". */
  name: string
  /** The worker's file, whose last line is `serveWork(…)`. */
  script: URL
  /** Maximum number of threads. They start on demand. */
  threads: number
  /** How many calls may wait for a thread; further ones are refused: `busy`. */
  maxWaiting: number
  /** How many calls one subject (a user id, an address) may have, waiting or running; further ones: `subject`. */
  maxPerSubject: number
  /** Measured from the start of the work; a worker that takes longer is terminated, and its call refused. */
  timeoutMs: number
  /** Maximum JavaScript heap of a thread, in MiB; Node terminates a worker that needs more. */
  heapMb: number
  /** Makes the error of a refusal. */
  refusal: (reason: PoolRefusal) => Error
}

export type WorkerPool<Input, Output> = {
  /**
   * Runs the work in a thread. Input and output are copied (structured clone). Rejects with a refusal if the pool has no
   * place or the signal aborts before the start, and with an `Error` of the same message if the work throws.
   */
  run: (input: Input, subject: string, signal?: AbortSignal) => Promise<Output>
  /** Terminates all threads; waiting calls are refused. */
  stop: () => Promise<void>
}

type Answer<Output> = { output: Output } | { failure: string }
type Call<Input, Output> = {
  input: Input
  resolve: (output: Output) => void
  reject: (reason: unknown) => void
}

/**
 * Threads for work whose size a client chooses, so that the event loop never runs it. Threads, waiting places, places
 * by subject, time and memory are each bounded.
 */
export const createWorkerPool = <Input, Output>(options: WorkerPoolOptions): WorkerPool<Input, Output> => {
  const { name, script, threads, maxWaiting, maxPerSubject, timeoutMs, heapMb, refusal } = options
  const waiting = new Set<Call<Input, Output>>()
  const idle = new Map<Worker, NodeJS.Timeout>()
  const running = new Map<Worker, Call<Input, Output>>()
  const bySubject = new Map<string, number>()
  let stopped = false

  const startWorker = (): Worker => {
    const worker = new Worker(script, { resourceLimits: { maxOldGenerationSizeMb: heapMb } })
    let failure = new Error(`a worker of ${name} ended`)
    worker.on('error', error => {
      failure = error as Error
    })
    worker.on('exit', () => {
      clearTimeout(idle.get(worker))
      idle.delete(worker)
      running.get(worker)?.reject(failure)
      running.delete(worker)
      startNext()
    })
    return worker
  }

  const startNext = (): void => {
    const [call] = waiting
    if (!call || stopped) return
    const [rested] = idle.keys()
    if (!rested && running.size >= threads) return
    const worker = rested ?? startWorker()
    waiting.delete(call)
    clearTimeout(idle.get(worker))
    idle.delete(worker)
    running.set(worker, call)
    worker.ref()
    const late = setTimeout(() => {
      call.reject(refusal('timeout'))
      void worker.terminate()
    }, timeoutMs)
    worker.once('exit', () => clearTimeout(late))
    worker.once('message', (answer: Answer<Output>) => {
      clearTimeout(late)
      running.delete(worker)
      // An idle thread neither keeps the process alive nor stays for ever.
      worker.unref()
      idle.set(worker, setTimeout(() => void worker.terminate(), IDLE_MS).unref())
      if ('output' in answer) call.resolve(answer.output)
      else call.reject(new Error(answer.failure))
      startNext()
    })
    worker.postMessage(call.input)
  }

  const enqueue = (input: Input, signal: AbortSignal | undefined) =>
    new Promise<Output>((resolve, reject) => {
      const call = { input, resolve, reject }
      // Running work continues: its thread is bounded by time, and a new thread would cost more.
      signal?.addEventListener('abort', () => waiting.delete(call) && reject(refusal('gone')), { once: true })
      waiting.add(call)
      startNext()
    })

  return {
    run: async (input, subject, signal) => {
      if (signal?.aborted) throw refusal('gone')
      const own = bySubject.get(subject) ?? 0
      if (own >= maxPerSubject) throw refusal('subject')
      if (stopped || waiting.size >= maxWaiting) throw refusal('busy')
      bySubject.set(subject, own + 1)
      try {
        return await enqueue(input, signal)
      } finally {
        const left = bySubject.get(subject)! - 1
        if (left === 0) bySubject.delete(subject)
        else bySubject.set(subject, left)
      }
    },
    stop: async () => {
      stopped = true
      for (const call of waiting) call.reject(refusal('busy'))
      waiting.clear()
      await Promise.all([...idle.keys(), ...running.keys()].map(worker => worker.terminate()))
    },
  }
}

/** For the worker's file: runs `work` with each input that arrives, one after the other. */
export const serveWork = <Input, Output>(work: (input: Input) => Output | Promise<Output>): void => {
  parentPort!.on('message', async (input: Input) => {
    const answer = await Promise.try(work, input).then(
      (output): Answer<Output> => ({ output }),
      (error): Answer<Output> => ({ failure: error instanceof Error ? error.message : String(error) }),
    )
    parentPort!.postMessage(answer)
  })
}
