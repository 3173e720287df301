import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import type { Announce } from '../identity/events/announce.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { ProblemError } from '../problems/problem.ts'
import { tellChanges, type UntoldChange } from './sql/webhooks.ts'

const AT_ONCE = 200
/** Changes that the notifier makes, or a gateway that died, wait for so long. */
const POLL_MS = 1_000
const LAST_RETRY_MS = 30_000

/** The address's scheme, host and port: what follows may be a secret of the receiver. */
export const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : '')

/** The purpose under which the origin of a user's webhook is sealed in events. */
const ORIGIN_PURPOSE = 'webhook-origin'

/** The origin for topics: a user's may name the person, so that it is ciphertext; null once the person is erased. */
const sealOrigin = async (
  personKeys: Pick<PersonKeys, 'encryptFor'>,
  { ownerId, url }: UntoldChange,
): Promise<Buffer | null> => {
  if (ownerId === null) return null
  try {
    return await personKeys.encryptFor(ownerId, originOf(url), ORIGIN_PURPOSE)
  } catch (error) {
    if (error instanceof ProblemError && error.code === 'PERSON_ERASED') return null
    throw error
  }
}

/** The event of a change, under the name that the change was given where it was made. */
export const eventOfChange = async (
  announce: Pick<Announce, 'identityEvent'>,
  personKeys: Pick<PersonKeys, 'encryptFor'>,
  change: UntoldChange,
): Promise<OutgoingRecord> => {
  const { id, kind, endpointId, ownerId, url, eventTypes, state, changed, byUserId, reason, staffReason } =
    change
  const recorded = { eventId: id, occurredAt: change.changedAt.getTime() }
  const about = {
    ...{ userId: ownerId, webhookId: endpointId, byUserId },
    origin: ownerId === null ? originOf(url) : '',
    sealedOrigin: await sealOrigin(personKeys, change),
  }
  const event = () => {
    switch (kind) {
      case 'added':
        return announce.identityEvent('WebhookAdded', { ...about, eventTypes }, undefined, recorded)
      case 'removed':
        return announce.identityEvent('WebhookRemoved', about, undefined, recorded)
      case 'changed': {
        const fact = { ...about, eventTypes, changed, state, reason: reason ?? 'asked', staffReason }
        return announce.identityEvent('WebhookChanged', fact, undefined, recorded)
      }
    }
  }
  const record = event()
  return { ...record, headers: { ...record.headers, ...change.cause } }
}

/**
 * Moves what the notifier's database recorded of changed endpoints to the outbox of the gateway's. The outbox commits first:
 * a crash between the two commits tells a change once more, under the same name, and none is left untold.
 */
export const startTellingChanges = (deps: {
  notifier: Database
  inTransaction: InTransaction
  announce: Pick<Announce, 'identityEvent'>
  personKeys: Pick<PersonKeys, 'encryptFor'>
  clock: Clock
  logger: Logger
}): Repeated => {
  const { notifier, inTransaction, announce, personKeys, clock, logger } = deps
  return repeat({
    clock,
    everyMs: POLL_MS,
    lastRetryMs: LAST_RETRY_MS,
    work: () =>
      tellChanges(notifier, AT_ONCE, changes =>
        inTransaction(async tx =>
          appendToOutbox(
            tx,
            await Promise.all(changes.map(change => eventOfChange(announce, personKeys, change))),
          ),
        ),
      ),
    onError: (error, retryMs) =>
      logger.warn({ err: error, retryMs }, 'changes of webhooks are not told yet; trying again'),
  })
}
