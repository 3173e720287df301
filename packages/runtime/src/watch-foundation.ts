import type { Clock } from './clock.ts'
import type { Database } from './database.ts'
import type { Logger } from './logger.ts'
import { gauge } from './metrics.ts'
import { repeat } from './repeat.ts'
import { readSettings } from './sql/read-settings.ts'

/** A setting of Kafka, Postgres or Redis that differs from the value on which the promises rest. */
export type FoundationFault = {
  /** A topic, or the server's name. */
  of: string
  setting: string
  found: string
  wanted: string
  /** Whether money or its history can be lost by it: then readiness fails. */
  losesMoney: boolean
}

const EVERY_MS = 30_000

const foundationOk = gauge(
  'foundation_ok',
  '1 where the settings that the promises rest on are right, 0 where one is not',
  ['what'],
)

export const textOf = ({ of, setting, found, wanted }: FoundationFault): string =>
  `${of}: ${setting} is ${found}, must be ${wanted}`

/**
 * Checks the settings on which the promises rest, at the start and every 30 s: each function of `checks` finds its
 * faults. A fault is logged each time and sets the gauge; a server that does not answer changes nothing, because other
 * alarms cover that.
 */
export const watchFoundation = (deps: {
  checks: Record<string, () => Promise<FoundationFault[]>>
  logger: Logger
  clock: Clock
  everyMs?: number
}): { check: (what: string) => void; stop: () => Promise<void> } => {
  const { checks, logger, clock, everyMs = EVERY_MS } = deps
  const known = new Map<string, FoundationFault[]>()

  const look = async (what: string, find: () => Promise<FoundationFault[]>) => {
    try {
      const faults = await find()
      known.set(what, faults)
      foundationOk.set({ what }, faults.length === 0 ? 1 : 0)
      for (const fault of faults)
        logger.error(fault, `a setting that the promises rest on is wrong: ${textOf(fault)}`)
    } catch (error) {
      logger.warn({ err: error, what }, 'settings could not be checked')
    }
  }
  const watching = repeat({
    clock,
    everyMs,
    work: async () => {
      await Promise.all(Object.entries(checks).map(([what, find]) => look(what, find)))
    },
    onError: error => logger.warn({ err: error }, 'settings could not be checked'),
  })

  return {
    /** Throws the first fault of `what` by which money can be lost. */
    check: what => {
      const fault = known.get(what)?.find(({ losesMoney }) => losesMoney)
      if (fault) throw new Error(textOf(fault))
    },
    stop: watching.stop,
  }
}

const DURABLE = new Set(['on', 'local', 'remote_write', 'remote_apply'])

/** The settings of Postgres, as a connection of this pool has them, by which a committed transaction can be lost. */
export const findPostgresFaults = async (sql: Database): Promise<FoundationFault[]> => {
  const wanted: Array<[setting: string, wanted: string, isRight: (value: string) => boolean]> = [
    ['fsync', 'on', value => value === 'on'],
    ['full_page_writes', 'on', value => value === 'on'],
    ['synchronous_commit', 'not off', value => DURABLE.has(value)],
    ['default_transaction_isolation', 'read committed', value => value === 'read committed'],
    ['zero_damaged_pages', 'off', value => value === 'off'],
  ]
  const rows = await readSettings(
    sql,
    wanted.map(([name]) => name),
  )
  const found = new Map(rows.map(({ name, setting }) => [name, setting]))
  return wanted.flatMap(([setting, must, isRight]) => {
    const value = found.get(setting)
    // Some settings are shown to a few roles only.
    if (value === undefined || isRight(value)) return []
    return [{ of: 'Postgres', setting, found: value, wanted: must, losesMoney: true }]
  })
}

/** A Redis that evicts loses ended sessions and rate limits. Read by INFO, which managed servers support as well. */
export const findRedisFaults = (info: string): FoundationFault[] => {
  const policy = /^maxmemory_policy:(\w[\w-]*)/m.exec(info)?.[1]
  if (policy === undefined || policy === 'noeviction') return []
  return [
    { of: 'Redis', setting: 'maxmemory-policy', found: policy, wanted: 'noeviction', losesMoney: false },
  ]
}
