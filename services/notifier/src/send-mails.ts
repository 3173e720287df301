import { type Clock, systemClock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import { isFinalRefusal, MAIL_CONNECTIONS, type SendMail } from './channels/mail.ts'
import { mailFor } from './mail-for.ts'
import type { OpenSecret } from './open-secret.ts'
import {
  type ClaimedDelivery,
  claimDeliveries,
  expireDeliveries,
  markFailed,
  markSent,
  postpone,
} from './sql/deliveries.ts'
import { readMailRecipient } from './sql/users.ts'

const mails = counter('notifier_mails_total', 'Mails by what became of each attempt', ['outcome'])

/** How long a new mail may wait where nobody calls `wake`: it was stored by another instance, or its pause is over. */
const POLL_MS = 1_000
/** Longer than the slowest conversation with a mail server, so that no two instances send the same mail. */
const CLAIM_MS = 60_000
const FIRST_PAUSE_MS = 1_000
const LAST_PAUSE_MS = 5 * 60_000
/** About three and a half hours; a mail may expire before. */
const MAX_ATTEMPTS = 50

/** The error's code alone: its text may name the address, or hold what could not be parsed of a secret. */
const codeOf = (error: unknown): string => {
  const { code, responseCode, name } = error as { code?: string; responseCode?: number; name?: string }
  return [code ?? name ?? 'Error', responseCode].filter(part => part !== undefined).join(' ')
}

/**
 * Sends the mails that are due, apart from the consumer: a mail server that is away holds no notification and no
 * partition. A mail whose acknowledgement is lost goes out once more, with the same Message-ID.
 */
export const startSendingMails = (deps: {
  sql: Database
  gatewayRead: Database
  openSecret: OpenSecret
  send: SendMail
  logger: Logger
  clock?: Clock
}): Repeated => {
  const { sql, gatewayRead, openSecret, send, logger, clock = systemClock } = deps
  const deliver = async ({
    commandId,
    userId,
    template,
    secret,
    attempts,
  }: ClaimedDelivery): Promise<void> => {
    try {
      const user = await readMailRecipient(gatewayRead, userId)
      if (!user) throw Object.assign(new Error('the gateway knows no such user'), { code: 'USER_UNKNOWN' })
      const mail = mailFor(template, user.fullName, await openSecret(secret))
      await send({ name: user.fullName ?? '', address: user.email }, { id: commandId, ...mail })
    } catch (error) {
      const code = codeOf(error)
      if (isFinalRefusal(error) || attempts >= MAX_ATTEMPTS) {
        mails.inc({ outcome: 'failed' })
        logger.error({ commandId, attempts, code }, 'mail given up')
        await markFailed(sql, commandId, code)
      } else {
        mails.inc({ outcome: 'postponed' })
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), LAST_PAUSE_MS)
        logger.warn({ commandId, attempts, code, pauseMs }, 'mail not sent; trying again')
        await postpone(sql, commandId, code, pauseMs)
      }
      return
    }
    mails.inc({ outcome: 'sent' })
    await markSent(sql, commandId)
  }

  /** Sends what is due now and tells whether there may be more. */
  const sendDue = async (): Promise<boolean> => {
    mails.inc({ outcome: 'expired' }, await expireDeliveries(sql))
    const claimed = await claimDeliveries(sql, MAIL_CONNECTIONS, CLAIM_MS)
    const results = await Promise.allSettled(claimed.map(deliver))
    const lost = results.find(result => result.status === 'rejected')
    if (lost) throw lost.reason
    return claimed.length === MAIL_CONNECTIONS
  }

  return repeat({
    ...{ clock, everyMs: POLL_MS, work: sendDue },
    onError: error => logger.warn({ code: codeOf(error) }, 'the database does not tell which mails are due'),
  })
}
