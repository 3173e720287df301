import { holdExpiryIdOf } from '@pennywire/contracts/ids.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { PublishCommand } from '../ledger/publish-command.ts'
import type { DueHold } from './sql/hold-reads.ts'

export type HoldTimerDeps = {
  readDue: (after: { until: Date; id: string }, limit: number) => Promise<DueHold[]>
  publishCommand: PublishCommand
  codec: Pick<Codec, 'encode'>
  clock: Clock
  logger: Logger
  everyMs: number
}

const PAGE = 200
const HOUR_MS = 3_600_000
/** Time for the ledger to decide before a hold's command is sent again; the ledger applies it once in any case. */
const AGAIN_AFTER_MS = 60_000
const FIRST = { until: new Date(0), id: '00000000-0000-0000-0000-000000000000' }

/**
 * Voids overdue holds, by one command each: the ledger decides by its own clock whether a hold is overdue. Every
 * gateway does this with the same command ids, so that each hold is voided once, and as long as one gateway runs.
 */
export const startHoldTimer = (deps: HoldTimerDeps): { stop: () => Promise<void> } => {
  const { clock, logger } = deps
  /** Hold id to the time when its command was last published. */
  const told = new Map<string, number>()

  const voidHold = async (hold: DueHold) => {
    const overdueHours = Math.floor((hold.now.getTime() - hold.until.getTime()) / HOUR_MS)
    const commandId = holdExpiryIdOf(hold.id, overdueHours)
    const type = 'pennywire.ledger.HoldVoidRequested'
    const command = {
      commandId,
      holdId: hold.id,
      walletId: hold.walletId,
      toWalletId: hold.toWalletId,
      userId: hold.userId,
      source: 'timer' as const,
      fingerprint: fingerprintOfCommand(type, { holdId: hold.id, source: 'timer' }),
      requestedAt: clock.now(),
    }
    await deps.publishCommand(
      commandRecord(deps.codec, type, hold.walletId, command, continueTrace(undefined)),
    )
    told.set(hold.id, clock.elapsed())
  }

  const look = async (stopped: AbortSignal) => {
    for (const [id, at] of told) if (clock.elapsed() - at >= AGAIN_AFTER_MS) told.delete(id)
    let page: DueHold[]
    let after: { until: Date; id: string } = FIRST
    do {
      page = await deps.readDue(after, PAGE)
      await Promise.all(page.filter(({ id }) => !told.has(id)).map(voidHold))
      after = page.at(-1) ?? after
    } while (page.length === PAGE && !stopped.aborted)
  }

  return repeat({
    ...{ clock, everyMs: deps.everyMs, pauseFirst: true, work: look },
    onError: error => logger.warn({ err: error }, 'due holds could not be let go; trying again'),
  })
}
