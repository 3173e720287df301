import type { MailRequested } from '@pennywire/contracts/schemas.ts'
import { type Database, TIMESTAMPTZ, type Tx } from '@pennywire/runtime/database.ts'

/** A delivery that this instance may work on until its claim runs out. */
export type ClaimedDelivery = {
  commandId: string
  userId: string
  template: string
  secret: string
  attempts: number
}

/** Stores mails to be sent, once for each command. */
export const insertDeliveries = (tx: Tx, mails: MailRequested[]) => tx`
  insert into notifier.deliveries (command_id, user_id, template, secret, requested_at, expires_at)
  select * from unnest(
    ${mails.map(({ commandId }) => commandId)}::uuid[],
    ${mails.map(({ userId }) => userId)}::uuid[],
    ${mails.map(({ template }) => template)}::text[],
    ${mails.map(({ secret }) => secret)}::text[],
    ${tx.array(
      mails.map(({ requestedAt }) => new Date(requestedAt)),
      TIMESTAMPTZ,
    )},
    ${tx.array(
      mails.map(({ expiresAt }) => new Date(expiresAt)),
      TIMESTAMPTZ,
    )})
  on conflict (command_id) do nothing`

/** Gives up the mails whose secret is worthless by now, and tells how many. */
export const expireDeliveries = async (sql: Database): Promise<number> => {
  const { count } = await sql`
    update notifier.deliveries set state = 'expired', secret = null
    where state = 'due' and expires_at <= now()`
  return count
}

/**
 * Claims the mails that have waited longest. The attempt is counted before it is made, and the claim is a later next
 * attempt rather than an open transaction: a mail server that is slow holds no lock, and what a dying instance had
 * claimed comes up again by itself.
 */
export const claimDeliveries = (sql: Database, limit: number, claimMs: number): Promise<ClaimedDelivery[]> =>
  sql<ClaimedDelivery[]>`
  update notifier.deliveries
  set attempts = attempts + 1, next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
  where command_id in (
    select command_id from notifier.deliveries
    where state = 'due' and next_attempt_at <= now() and expires_at > now()
    order by next_attempt_at
    limit ${limit}
    for update skip locked)
  returning command_id as "commandId", user_id as "userId", template, secret, attempts`

/** The mail server has taken it; its secret is no longer needed. */
export const markSent = (sql: Database, commandId: string) => sql`
  update notifier.deliveries set state = 'sent', sent_at = now(), secret = null, last_error = null
  where command_id = ${commandId} and state = 'due'`

/** It will never be sent. */
export const markFailed = (sql: Database, commandId: string, error: string) => sql`
  update notifier.deliveries set state = 'failed', secret = null, last_error = ${error}
  where command_id = ${commandId} and state = 'due'`

/** It is tried again after this pause. */
export const postpone = (sql: Database, commandId: string, error: string, pauseMs: number) => sql`
  update notifier.deliveries
  set last_error = ${error}, next_attempt_at = now() + ${pauseMs} * interval '1 millisecond'
  where command_id = ${commandId} and state = 'due'`
