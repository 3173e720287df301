import { type Database, TIMESTAMPTZ, type Tx } from '@pennywire/runtime/database.ts'

/** A secret of an endpoint: the JWE that holds it, and until when it signs. */
export type SealedSecret = { secret: string; expiresAt: string | null }

/** An endpoint that this instance alone delivers to until its claim runs out. */
export type ClaimedEndpoint = {
  id: string
  ownerId: string | null
  url: string
  secrets: SealedSecret[]
  failures: number
  /** Since its first failure after the last success; null where there was none. */
  failingMs: number | null
  claim: string
}

export type WebhookDelivery = {
  id: string
  eventType: string
  payload: string
  attempts: number
}

/** One try of a delivery, as its log shows it. */
export type Try = {
  at: string
  status: number | null
  error: string | null
  ms: number
  answer: string | null
}

/** Tries that the log of one delivery keeps. */
const KEPT_TRIES = 20

/** Which of these users have an active endpoint, and whether the operator has one (null among them). */
export const readEndpointOwners = async (tx: Tx, users: string[]): Promise<Set<string | null>> => {
  const rows = await tx<{ ownerId: string | null }[]>`
    select distinct owner_id as "ownerId" from notifier.webhook_endpoints
    where state <> 'disabled' and (owner_id is null or owner_id = any (${users}::uuid[]))`
  return new Set(rows.map(({ ownerId }) => ownerId))
}

/** What goes to the endpoints of one owner because of an event. */
export type OwnersEvent = { cause: string; ownerId: string | null; type: string; at: number; payload: string }

/**
 * Stores deliveries for all endpoints that want an event, once for each event and endpoint, under an id that follows from
 * both (a UUID of version 8). A paused endpoint gets its
 * events as well, for when it goes on. What happened before an endpoint was made is not sent to it (a minute aside, by
 * which clocks may differ), nor what is read again long after.
 */
export const insertWebhooks = async (tx: Tx, events: OwnersEvent[], worthMs: number): Promise<number> => {
  const { count } = await tx`
    insert into notifier.deliveries
      (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at)
    select overlay(overlay(md5(q.cause || q.type || e.id::text) placing '8' from 13) placing '8' from 17)::uuid, 'webhook', e.id, e.owner_id, q.type, q.payload, q.at,
      now() + ${worthMs} * interval '1 millisecond'
    from unnest(
      ${events.map(({ cause }) => cause)}::text[],
      ${events.map(({ ownerId }) => ownerId ?? '')}::text[],
      ${events.map(({ type }) => type)}::text[],
      ${events.map(({ payload }) => payload)}::text[],
      ${tx.array(
        events.map(({ at }) => new Date(at)),
        TIMESTAMPTZ,
      )}) with ordinality as q (cause, owner_id, type, payload, at, n)
      join notifier.webhook_endpoints e
        on coalesce(e.owner_id::text, '') = q.owner_id and e.state <> 'disabled'
        and (e.event_types = '{}' or q.type = any (e.event_types))
        and e.created_at <= q.at + interval '1 minute'
    where q.at > now() - interval '7 days'
    order by q.n
    on conflict (command_id) do nothing`
  return count
}

/**
 * Claims endpoints that have something due, those that have waited longest first. A claim that runs out is another
 * instance's to take: what a dying one had begun is sent again, under the same id.
 */
export const claimEndpoints = (sql: Database, limit: number, claimMs: number): Promise<ClaimedEndpoint[]> =>
  sql<ClaimedEndpoint[]>`
    update notifier.webhook_endpoints
    set claim = gen_random_uuid(), claimed_until = now() + ${claimMs} * interval '1 millisecond'
    where id in (
      select e.id from notifier.webhook_endpoints e
      where e.state = 'active' and e.next_attempt_at <= now()
        and (e.claimed_until is null or e.claimed_until < now())
        and exists (
          select from notifier.deliveries d
          where d.endpoint_id = e.id and d.state = 'due' and d.next_attempt_at <= now() and d.expires_at > now())
      order by e.next_attempt_at limit ${limit} for no key update of e skip locked)
    returning id, owner_id as "ownerId", url, secrets, failures, claim,
      (extract(epoch from now() - failing_since) * 1000)::float8 as "failingMs"`

/** The endpoint's next delivery, its attempt counted before it is made. Undefined where none is due or the claim is lost. */
export const takeNext = async (
  sql: Database,
  { id, claim }: ClaimedEndpoint,
): Promise<WebhookDelivery | undefined> => {
  const [delivery] = await sql<[WebhookDelivery?]>`
    update notifier.deliveries set attempts = attempts + 1
    where command_id = (
      select d.command_id from notifier.deliveries d join notifier.webhook_endpoints e on e.id = d.endpoint_id
      where d.endpoint_id = ${id} and d.state = 'due' and d.next_attempt_at <= now() and d.expires_at > now()
        and e.claim = ${claim} and e.claimed_until > now() and e.state = 'active'
      order by d.next_attempt_at, d.seq limit 1)
    returning command_id as id, event_type as "eventType", payload, attempts`
  return delivery
}

const addTry = (sql: Database, one: Try) => sql`
  tries = case when jsonb_array_length(tries) < ${KEPT_TRIES} then tries else tries - 0 end
    || ${JSON.stringify([one])}::text::jsonb`

/** It has come: the endpoint is well. */
export const markDelivered = async (
  sql: Database,
  endpoint: ClaimedEndpoint,
  deliveryId: string,
  one: Try,
): Promise<void> => {
  await sql`
    with sent as (
      update notifier.deliveries set state = 'sent', sent_at = now(), last_error = null, ${addTry(sql, one)}
      where command_id = ${deliveryId} and state = 'due')
    update notifier.webhook_endpoints set failures = 0, failing_since = null
    where id = ${endpoint.id} and claim = ${endpoint.claim} and failing_since is not null`
}

/** The endpoint refuses this one event: it is tried again later, and those behind it go on. */
export const postponeAlone = async (
  sql: Database,
  endpoint: ClaimedEndpoint,
  deliveryId: string,
  one: Try,
  pauseMs: number,
): Promise<void> => {
  await sql`
    with postponed as (
      update notifier.deliveries
      set next_attempt_at = now() + ${pauseMs} * interval '1 millisecond', last_error = ${one.error}, ${addTry(sql, one)}
      where command_id = ${deliveryId} and state = 'due')
    update notifier.webhook_endpoints set failing_since = coalesce(failing_since, now())
    where id = ${endpoint.id} and claim = ${endpoint.claim}`
}

/** The endpoint cannot be reached or serves nobody: all of its events wait. */
export const postponeEndpoint = async (
  sql: Database,
  endpoint: ClaimedEndpoint,
  deliveryId: string,
  one: Try,
  pauseMs: number,
): Promise<void> => {
  await sql`
    with noted as (
      update notifier.deliveries set last_error = ${one.error}, ${addTry(sql, one)}
      where command_id = ${deliveryId} and state = 'due')
    update notifier.webhook_endpoints
    set failures = failures + 1, failing_since = coalesce(failing_since, now()),
      next_attempt_at = now() + ${pauseMs} * interval '1 millisecond'
    where id = ${endpoint.id} and claim = ${endpoint.claim}`
}

/** Gives an endpoint back, behind those that wait: the next instance may take it. */
export const releaseEndpoint = async (sql: Database, { id, claim }: ClaimedEndpoint): Promise<void> => {
  await sql`
    update notifier.webhook_endpoints
    set claim = null, claimed_until = null, next_attempt_at = greatest(next_attempt_at, now())
    where id = ${id} and claim = ${claim}`
}

/**
 * Ends an endpoint that has failed for too long, or is gone. False where its claim is lost: its owner may have changed it
 * meanwhile. What is due for it fails in `failOfDisabled`.
 */
export const disableEndpoint = (
  sql: Database,
  { id, claim }: ClaimedEndpoint,
  also: (tx: Tx) => Promise<void>,
): Promise<boolean> =>
  sql.begin(async tx => {
    const { count } = await tx`
      update notifier.webhook_endpoints set state = 'disabled', claim = null, claimed_until = null
      where id = ${id} and claim = ${claim} and state = 'active'`
    if (count === 0) return false
    await also(tx)
    return true
  })

/** One statement changes so many rows: none lasts long, however many there are. */
const ROWS = 5_000

/** Fails some of what is due to endpoints that are disabled. */
export const failOfDisabled = async (sql: Database): Promise<void> => {
  await sql`
    update notifier.deliveries set state = 'failed', last_error = 'ENDPOINT_DISABLED'
    where command_id in (
      select d.command_id from notifier.webhook_endpoints e join notifier.deliveries d on d.endpoint_id = e.id
      where e.state = 'disabled' and d.state = 'due' limit ${ROWS} for no key update of d skip locked)`
}

/** An endpoint that failed and has nothing due any more begins anew: its next failure is its first. */
export const forgiveIdle = async (sql: Database): Promise<void> => {
  await sql`
    update notifier.webhook_endpoints e set failing_since = null, failures = 0
    where e.failing_since is not null and e.state = 'active'
      and not exists (select from notifier.deliveries d where d.endpoint_id = e.id and d.state = 'due')`
}
