import type { Clock } from '@pennywire/runtime/clock.ts'
import { LRUCache } from 'lru-cache'

/** The place of a caller in the queue. */
export type Place = {
  /** The subjects that a turn is charged to, the widest first: network, address, account. At least one. */
  path: string[]
  /** Signed in, or known at their address: goes before strangers. */
  known: boolean
  /** Aborts when the answer has no reader any more. */
  gone?: AbortSignal | undefined
}

/** The reason why work was not started: no place, no turn in time, or no reader. */
export class NotServed extends Error {
  readonly reason: 'full' | 'late' | 'gone'
  constructor(reason: 'full' | 'late' | 'gone') {
    super(`no turn: ${reason}`)
    this.reason = reason
  }
}

export type FairQueue = {
  /** Starts the work when its turn comes. Rejects with NotServed if the work was not started. */
  run: <Result>(place: Place, work: () => Promise<Result>) => Promise<Result>
  /** The number of waiters. */
  waiting: () => number
}

type Waiter = { place: Place; path: string; begin: () => void; refuse: (reason: NotServed['reason']) => void }

/** After so many turns of known callers a stranger has one, so that neither group starves the other. */
const KNOWN_IN_A_ROW = 3
/** Half-life of a turn's weight: a subject with few turns goes before one with many recent turns. */
const HALF_LIFE_MS = 60_000
/** Number of subjects whose turns are remembered: the most recent ones. */
const REMEMBERED = 20_000

/** The waiters of each subject at one level of their paths. */
const groupsAt = (waiters: Waiter[], level: number): Map<string, Waiter[]> =>
  Map.groupBy(waiters, ({ place }) => place.path.slice(0, level + 1).join(' '))

const deepest = (waiters: Waiter[]): number => Math.max(...waiters.map(({ place }) => place.path.length))

/**
 * A bounded queue in which a flood delays only itself. The next turn goes to the widest subject with the fewest recent
 * turns, within it to the narrower one, and so down to the earliest waiter. If no place is left, the newest waiter of
 * the subject with the most places is refused: a subject with few places always gets one. Known callers and strangers
 * have `maxWaiting` places each.
 */
export const createFairQueue = (options: {
  atOnce: number
  maxWaiting: number
  /** Places of one whole path. */
  maxPerPath: number
  /** A longer wait has no reader any more. */
  maxWaitMs: number
  clock: Clock
}): FairQueue => {
  const { atOnce, maxWaiting, maxPerPath, maxWaitMs, clock } = options
  const known: Waiter[] = []
  const strangers: Waiter[] = []
  const turns = new LRUCache<string, { many: number; at: number }>({ max: REMEMBERED })
  let running = 0
  let knownInARow = 0

  const turnsOf = (subject: string): number => {
    const had = turns.peek(subject)
    return had ? had.many * 2 ** ((had.at - clock.elapsed()) / HALF_LIFE_MS) : 0
  }
  const charge = ({ path }: Place) => {
    for (let level = 0; level < path.length; level++) {
      const subject = path.slice(0, level + 1).join(' ')
      turns.set(subject, { many: turnsOf(subject) + 1, at: clock.elapsed() })
    }
  }

  /** The waiter whose subjects had the fewest turns; of equals the first. */
  const neediest = (waiters: Waiter[]): Waiter => {
    let left = waiters
    for (let level = 0; level < deepest(left) && left.length > 1; level++) {
      const groups = [...groupsAt(left, level)].map(([subject, group]) => ({ had: turnsOf(subject), group }))
      const fewest = Math.min(...groups.map(({ had }) => had))
      left = groups.find(({ had }) => had === fewest)!.group
    }
    return left[0]!
  }
  /** The newest waiter of the subject with the most places; of equals the last. */
  const heaviest = (waiters: Waiter[]): Waiter => {
    let left = waiters
    for (let level = 0; level < deepest(left) && left.length > 1; level++) {
      const groups = [...groupsAt(left, level).values()]
      const most = Math.max(...groups.map(group => group.length))
      left = groups.findLast(group => group.length === most)!
    }
    return left.at(-1)!
  }

  const next = () => {
    while (running < atOnce && known.length + strangers.length > 0) {
      const takesKnown = known.length > 0 && (strangers.length === 0 || knownInARow < KNOWN_IN_A_ROW)
      knownInARow = takesKnown ? knownInARow + 1 : 0
      neediest(takesKnown ? known : strangers).begin()
    }
  }

  /** Resolves with its turn. */
  const wait = (place: Place): Promise<void> =>
    new Promise((resolve, reject) => {
      const line = place.known ? known : strangers
      const leave = () => {
        cancel()
        place.gone?.removeEventListener('abort', hangUp)
        line.splice(line.indexOf(waiter), 1)
      }
      const waiter: Waiter = {
        place,
        path: place.path.join(' '),
        begin: () => {
          leave()
          running++
          charge(place)
          resolve()
        },
        refuse: reason => {
          leave()
          reject(new NotServed(reason))
        },
      }
      const hangUp = () => waiter.refuse('gone')
      const cancel = clock.after(maxWaitMs, () => waiter.refuse('late'))
      place.gone?.addEventListener('abort', hangUp, { once: true })
      line.push(waiter)
      if (line.filter(({ path }) => path === waiter.path).length > maxPerPath) waiter.refuse('full')
      else if (line.length > maxWaiting) heaviest(line).refuse('full')
    })

  return {
    run: async (place, work) => {
      if (place.gone?.aborted) throw new NotServed('gone')
      if (running < atOnce && known.length + strangers.length === 0) {
        running++
        charge(place)
      } else {
        await wait(place)
      }
      try {
        return await work()
      } finally {
        running--
        next()
      }
    },
    waiting: () => known.length + strangers.length,
  }
}
