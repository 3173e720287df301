import type { MailRequested } from '@pennywire/contracts/schemas.ts'
import { type Database, TIMESTAMPTZ, type Tx } from '@pennywire/runtime/database.ts'
import type { DeliveredNotice, NoticeMail } from '../notice-mails.ts'

/** A delivery that this instance may work on until its claim runs out. */
export type ClaimedDelivery = {
  id: string
  userId: string
  /** Of a mail by template, with its secret; of one of a notice null. */
  template: string | null
  secret: string | null
  notice: DeliveredNotice | null
  attempts: number
  claim: string
}

/** Stores mails by template to be sent, once for each command. */
export const insertMails = (tx: Tx, mails: MailRequested[]) => tx`
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

/**
 * Stores the mails of notices to be sent, once for each, where the user wants its kind by mail: those who have not chosen
 * get what the setting says. Tells how many.
 */
export const insertNoticeMails = async (tx: Tx, mails: NoticeMail[]): Promise<number> => {
  const { count } = await tx`
    insert into notifier.deliveries (command_id, user_id, notice, requested_at, expires_at)
    select q.id, q.user_id, q.notice::jsonb, q.requested_at, q.expires_at
    from unnest(
      ${mails.map(({ id }) => id)}::uuid[],
      ${mails.map(({ userId }) => userId)}::uuid[],
      ${mails.map(({ kind }) => kind)}::text[],
      ${mails.map(({ notice }) => JSON.stringify(notice))}::text[],
      ${tx.array(
        mails.map(({ notice }) => new Date(notice.createdAt)),
        TIMESTAMPTZ,
      )},
      ${tx.array(
        mails.map(({ expiresAt }) => new Date(expiresAt)),
        TIMESTAMPTZ,
      )}) as q (id, user_id, kind, notice, requested_at, expires_at)
      left join notifier.preferences p using (user_id)
    where q.expires_at > now() and case
      when q.kind = 'security' then true
      when q.kind || ':email' = any (p.turned_off) then false
      when q.kind || ':email' = any (p.turned_on) then true
      else q.kind in (select kind from notifier.mailed_kinds) end
    on conflict (command_id) do nothing`
  return count
}

/** Which kinds of notices are mailed to users who have not chosen. */
export const writeMailedKinds = (sql: Database, kinds: readonly string[]) =>
  sql.begin(async tx => {
    await tx`lock table notifier.mailed_kinds in exclusive mode`
    await tx`delete from notifier.mailed_kinds where kind <> all (${[...kinds]}::text[])`
    await tx`insert into notifier.mailed_kinds select unnest(${[...kinds]}::text[]) on conflict do nothing`
  })

/** One statement gives up so many: none lasts long, however many there are. */
const EXPIRE_ROWS = 5_000

/** Gives up some of what is worthless by now, and tells how many. */
export const expireDeliveries = async (sql: Database, channel: string): Promise<number> => {
  const { count } = await sql`
    update notifier.deliveries set state = 'expired', secret = null, claim = null
    where command_id = any (array(
      select command_id from notifier.deliveries
      where state = 'due' and channel = ${channel} and expires_at <= now()
      order by expires_at limit ${EXPIRE_ROWS} for no key update skip locked))`
  return count
}

/**
 * Claims the deliveries that have waited longest. The attempt is counted before it is made, and the claim is a later next
 * attempt rather than an open transaction: a server that is slow holds no lock, and what a dying instance had claimed
 * comes up again by itself.
 */
export const claimDeliveries = (
  sql: Database,
  { channel, limit, claimMs }: { channel: string; limit: number; claimMs: number },
): Promise<ClaimedDelivery[]> =>
  sql<ClaimedDelivery[]>`
  update notifier.deliveries
  set attempts = attempts + 1, next_attempt_at = now() + ${claimMs} * interval '1 millisecond', claim = gen_random_uuid()
  where command_id = any (array(
    select command_id from notifier.deliveries
    where state = 'due' and channel = ${channel} and next_attempt_at <= now() and expires_at > now()
    order by next_attempt_at
    limit ${limit}
    for update skip locked))
  returning command_id as id, user_id as "userId", template, secret, notice, attempts, claim`

/** It has gone out, or never will: what it holds in secret is no longer needed. */
export const endDelivery = (
  sql: Database,
  { id, claim }: ClaimedDelivery,
  end: { state: 'sent' | 'failed' | 'suppressed'; error: string | null },
) => sql`
  update notifier.deliveries
  set state = ${end.state}, secret = null, claim = null, last_error = ${end.error},
    sent_at = case when ${end.state} = 'sent' then now() end
  where command_id = ${id} and claim = ${claim} and state = 'due'`

/** It is tried again after this pause. */
export const postponeDelivery = (
  sql: Database,
  { id, claim }: ClaimedDelivery,
  error: string,
  pauseMs: number,
) => sql`
  update notifier.deliveries
  set last_error = ${error}, next_attempt_at = now() + ${pauseMs} * interval '1 millisecond', claim = null
  where command_id = ${id} and claim = ${claim} and state = 'due'`

/**
 * How many deliveries wait, and for how many seconds the oldest mail that could be tried: webhooks wait for their
 * receivers, which are not ours.
 */
export const measureDue = async (sql: Database): Promise<{ due: number; overdueSeconds: number }> => {
  const [row] = await sql<[{ due: number; overdueSeconds: number }]>`
    select count(*)::int as due,
      coalesce(greatest(extract(epoch from now() - min(next_attempt_at) filter (where channel = 'mail')), 0), 0)::float8
        as "overdueSeconds"
    from notifier.deliveries where state = 'due'`
  return row
}
