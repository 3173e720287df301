import type { LedgerCommandName, Records } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { keyReused } from '../http/idempotency.ts'
import { ProblemError } from '../problems/problem.ts'
import { isOutcome, type Outcome, type Outcomes } from './await-outcome.ts'
import { commandRecord } from './command-record.ts'
import type { PublishCommand } from './publish-command.ts'

/**
 * Commands that do not need the flow of a transfer: they change a wallet or end a hold, and are decided within moments.
 */
type CommandName = {
  [Name in LedgerCommandName]: Records[Name] extends { commandId: string; fingerprint: Buffer } ? Name : never
}[LedgerCommandName]

export type Ask = <Name extends CommandName>(
  name: Name,
  /** The wallet whose money or state the command changes. */
  key: string,
  command: Records[Name],
  traceparent: string,
) => Promise<Outcome>

export type AskLedgerDeps = {
  logger: Logger
  codec: Codec
  /** Throws 503 if the request would only wait. */
  admit: (walletId: string) => void
  publishCommand: PublishCommand
  outcomes: Pick<Outcomes, 'wait'>
  /** The event that answers the command, and the fingerprint of the command it answers; undefined if undecided. */
  readOutcome: (commandId: string) => Promise<{ fingerprint: Buffer; bytes: Buffer } | undefined>
  clock: Clock
}

const WAIT_MS = 10_000
/** The event is only a wake-up: without one by then, the request queries the ledger's database. */
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 2_000

/**
 * Whether another request has this outcome. An empty fingerprint is that of an outcome written again from an event that
 * does not contain it: then the id alone tells.
 */
const isOther = (decided: { fingerprint: Buffer }, fingerprint: Buffer): boolean =>
  decided.fingerprint.length > 0 && !decided.fingerprint.equals(fingerprint)

/**
 * Sends a command to the ledger and resolves with its outcome, including a refusal. Throws 503 if the outcome is
 * unknown in time; a retry with the same commandId is safe: the ledger applies it once and answers with the same
 * outcome.
 */
export const createAskLedger =
  (deps: AskLedgerDeps): Ask =>
  async (name, key, command, traceparent) => {
    const { commandId, fingerprint } = command as { commandId: string; fingerprint: Buffer }
    deps.admit(key)
    const waiter = deps.outcomes.wait(commandId, WAIT_MS, fingerprint)
    let cancel = () => {}
    let over = false
    let pauseMs = FIRST_PAUSE_MS
    const asking = new Promise<Outcome>((resolve, reject) => {
      const ask = async () => {
        try {
          const decided = await deps.readOutcome(commandId)
          if (decided && isOther(decided, fingerprint)) return reject(keyReused())
          const event = decided && (await deps.codec.decode(decided.bytes))
          if (event && isOutcome(event)) return resolve(event)
        } catch (error) {
          deps.logger.warn({ err: error, commandId }, 'the ledger could not be asked')
        }
        pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)
        if (!over) cancel = deps.clock.after(pauseMs, () => void ask())
      }
      cancel = deps.clock.after(pauseMs, () => void ask())
    })
    asking.catch(() => {})
    try {
      await deps.publishCommand(commandRecord(deps.codec, name, key, command, traceparent))
      const outcome = await Promise.race([waiter.outcome, asking])
      if (outcome) {
        // A refusal contains the fingerprint of its command. Any other event may answer an earlier request with this id
        // and other content.
        if (outcome.type !== 'pennywire.ledger.CommandRefused') {
          const decided = await deps.readOutcome(commandId)
          if (!decided || isOther(decided, fingerprint)) throw keyReused()
        }
        return outcome
      }
      throw new ProblemError(
        'SERVICE_UNAVAILABLE',
        'The request is not decided yet. Asking again is safe: it is applied once.',
      )
    } finally {
      over = true
      cancel()
      waiter.leave()
    }
  }
