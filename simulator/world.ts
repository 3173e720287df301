import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Random } from './random.ts'

/** One running program of the simulated system. Nothing reaches it while it is paused, nor ever after it is dead. */
export type Process = {
  name: string
  alive: boolean
  paused: boolean
  /** What came while it was paused: told when it wakes, in order. */
  held: Action[]
  /** How far its clock is off. */
  skewMs: number
}

type Action = { at: number; order: number; process: Process | null; label: string; run: (() => void) | null }

/** What a replaced part needs of the world: the time, and a way to go on later. */
export type Scheduler = {
  /** Milliseconds since the beginning. */
  now: () => number
  /** What the calendar says, in milliseconds since 1970: as `now`, but for the leaps. */
  wall: () => number
  /**
   * Does something later, as a step of its own; the returned function calls it off. With a process it is something
   * that the process hears (it may be paused or dead by then), without one it happens in any case.
   */
  after: (ms: number, process: Process | null, label: string, run: () => void) => () => void
  /** How long a message takes this time. */
  latency: () => number
}

export type World = Scheduler & {
  random: Random
  steps: () => number
  /** All calendars are put forward at once, as if nothing had happened for so long. */
  leap: (ms: number) => void
  /** Messages take this many times as long. */
  setSlowness: (factor: number) => void
  createProcess: (name: string, skewMs?: number) => Process
  kill: (process: Process) => void
  pause: (process: Process) => void
  wake: (process: Process) => void
  clockOf: (process: Process) => Clock
  sleep: (ms: number, process: Process, label: string) => Promise<void>
  /** Writes a line of the trace: something that happens within a step. */
  note: (text: string) => void
  /** Ends the run: a promise is broken. */
  fail: (error: unknown) => void
  /** Takes steps until the condition holds, or there are no more; throws what `fail` was told. */
  runUntil: (condition: () => boolean) => Promise<void>
  /** A number over all steps taken: equal for equal runs. */
  traceHash: () => string
  lastSteps: () => string[]
}

/** The simulation begins at this moment, in milliseconds since 1970. */
export const EPOCH_MS = 1_800_000_000_000

/** Everything that was begun by a step is done once the event loop turns: promises have no other way to wait. */
const settle = () => new Promise<void>(resolve => setImmediate(resolve))

/**
 * A world with a clock of its own in which everything that waits is an action in one queue, ordered by time. How long
 * each takes is drawn from the seed, so the seed chooses the order; there is no other source of order or time.
 */
export const createWorld = (random: Random, rememberedLines = 40): World => {
  const queue: Action[] = []
  let now = 0
  let order = 0
  let steps = 0
  let slowness = 1
  let leapt = 0
  let heard = false
  let failure: { error: unknown } | undefined
  let hash = 0x811c9dc5
  const remembered: string[] = []

  const before = (a: Action, b: Action) => a.at < b.at || (a.at === b.at && a.order < b.order)
  const push = (action: Action) => {
    let at = queue.push(action) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      if (!before(action, queue[above]!)) break
      queue[at] = queue[above]!
      at = above
    }
    queue[at] = action
  }
  const pop = (): Action | undefined => {
    const first = queue[0]
    const last = queue.pop()
    if (!first || !last || first === last) return first
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= queue.length) break
      if (below + 1 < queue.length && before(queue[below + 1]!, queue[below]!)) below++
      if (!before(queue[below]!, last)) break
      queue[at] = queue[below]!
      at = below
    }
    queue[at] = last
    return first
  }

  const mix = (text: string, number: number) => {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
    hash = Math.imul(hash ^ (number * 1_000), 0x01000193)
  }
  const remember = (line: string) => {
    remembered.push(line)
    if (remembered.length > 2 * rememberedLines) remembered.splice(0, rememberedLines)
  }
  const tell = (action: Action) => {
    const who = action.process?.name ?? ''
    mix(action.label, now)
    mix(who, steps)
    remember(
      `${String(steps).padStart(8)}  ${now.toFixed(3).padStart(12)} ms  ${who.padEnd(12)} ${action.label}`,
    )
  }

  /** Takes one step; false where nothing is left to do. */
  const step = (): boolean => {
    for (;;) {
      const action = pop()
      if (!action) return false
      const { process, run } = action
      if (!run || process?.alive === false) continue
      now = action.at
      if (process?.paused) {
        process.held.push(action)
        continue
      }
      steps++
      tell(action)
      heard = process !== null
      run()
      return true
    }
  }

  const world: World = {
    random,
    now: () => now,
    wall: () => EPOCH_MS + now + leapt,
    leap: ms => {
      leapt += ms
    },
    steps: () => steps,
    setSlowness: factor => {
      slowness = factor
    },
    after: (ms, process, label, run) => {
      const action: Action = { at: now + Math.max(ms, 0), order: order++, process, label, run }
      push(action)
      return () => {
        action.run = null
      }
    },
    // Mostly quick, now and then late, seldom very late: late enough for everything else to happen first.
    latency: () => {
      const kind = random.float()
      const ms = random.float()
      return slowness * (kind < 0.9 ? 0.1 + 2 * ms : kind < 0.99 ? 2 + 20 * ms : 20 + 400 * ms)
    },
    createProcess: (name, skewMs = 0) => ({ name, alive: true, paused: false, held: [], skewMs }),
    kill: process => {
      process.alive = false
      process.held = []
    },
    pause: process => {
      process.paused = true
    },
    wake: process => {
      process.paused = false
      for (const action of process.held.splice(0)) push(Object.assign(action, { at: now, order: order++ }))
    },
    clockOf: process => ({
      now: () => Math.floor(world.wall() + process.skewMs),
      elapsed: () => now,
      after: (ms, action) => world.after(ms, process, 'timer', action),
    }),
    sleep: (ms, process, label) => new Promise(resolve => world.after(ms, process, label, resolve)),
    note: text => {
      mix(text, now)
      remember(`${''.padStart(8)}  ${''.padStart(15)}    ${text}`)
    },
    fail: error => {
      failure ??= { error }
    },
    runUntil: async condition => {
      while (!condition()) {
        if (!step()) return
        if (heard) await settle()
        if (failure) throw failure.error
      }
    },
    traceHash: () => (hash >>> 0).toString(16).padStart(8, '0'),
    lastSteps: () => remembered.slice(-rememberedLines),
  }
  return world
}
