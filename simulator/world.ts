import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Random } from './random.ts'

/** A process of the simulated system. It receives nothing while it is paused, and nothing ever after it is dead. */
export type Process = {
  name: string
  alive: boolean
  paused: boolean
  /** Actions that came due while it was paused: run when it wakes, in order. */
  held: Action[]
  /** The offset of its clock. */
  skewMs: number
}

type Action = { at: number; order: number; process: Process | null; label: string; run: (() => void) | null }

/** The part of the world that simulated components need: the time, and a way to schedule actions. */
export type Scheduler = {
  /** Milliseconds since the beginning. */
  now: () => number
  /** The calendar time, in milliseconds since 1970: advances as `now`, and by leaps. */
  wall: () => number
  /**
   * Schedules an action as a step of its own; the returned function cancels it. With a process, the action is delivered
   * to the process (which may be paused or dead by then); without one, it runs in any case.
   */
  after: (ms: number, process: Process | null, label: string, run: () => void) => () => void
  /** Draws how long one message takes. */
  latency: () => number
}

export type World = Scheduler & {
  random: Random
  steps: () => number
  /** Puts all calendars forward at once, as if nothing had happened for `ms`. */
  leap: (ms: number) => void
  /** Multiplies the time that messages take. */
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
  /** Takes steps until the condition holds, or there are no more; throws the error that was passed to `fail`. */
  runUntil: (condition: () => boolean) => Promise<void>
  /** A hash over all steps taken: equal for equal runs. */
  traceHash: () => string
  lastSteps: () => string[]
}

/** The simulation begins at this moment, in milliseconds since 1970. */
export const EPOCH_MS = 1_800_000_000_000

/** All work begun by a step is done once the event loop turns: promises have nothing else to wait for. */
const settle = () => new Promise<void>(resolve => setImmediate(resolve))

/**
 * A world with its own clock, in which everything that waits is an action in one queue, ordered by time. How long each
 * takes is drawn from the seed, so the seed determines the order; there is no other source of order or time.
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

  /** Takes one step; false if no action is left. */
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
