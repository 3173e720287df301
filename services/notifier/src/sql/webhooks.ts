import { arrayOf, type Database, TIMESTAMPTZ, type Tx, UUID } from '@pennywire/runtime/database.ts'

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
    (select owner_id as "ownerId" from notifier.webhook_endpoints where state <> 'disabled' and owner_id is null limit 1)
    union all
    select distinct owner_id from notifier.webhook_endpoints
    where state <> 'disabled' and owner_id = any (${users}::uuid[])`
  return new Set(rows.map(({ ownerId }) => ownerId))
}

/** What goes to the endpoints of one owner because of an event. */
export type OwnersEvent = { cause: string; ownerId: string | null; type: string; at: number; payload: string }

/**
 * Stores deliveries for all endpoints that want an event, once for each event and endpoint, under an id that follows from
 * both (a UUID of version 8). A paused endpoint gets its
 * events as well, for when it goes on. Returns the endpoints that got something. What happened before an endpoint was made is not sent to it (a minute aside, by
 * which clocks may differ), nor what is read again long after.
 */
export const insertWebhooks = async (tx: Tx, events: OwnersEvent[], worthMs: number): Promise<string[]> => {
  const rows = await tx<{ endpointId: string }[]>`
    with stored as (
      insert into notifier.deliveries
        (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at)
      select overlay(overlay(md5(q.cause || q.type || e.id::text) placing '8' from 13) placing '8' from 17)::uuid, 'webhook', e.id, q.owner_id, q.type, q.payload, q.at,
        now() + ${worthMs} * interval '1 millisecond'
      from unnest(
        ${events.map(({ cause }) => cause)}::text[],
        ${arrayOf(
          tx,
          events.map(({ ownerId }) => ownerId),
          UUID,
        )},
        ${events.map(({ type }) => type)}::text[],
        ${events.map(({ payload }) => payload)}::text[],
        ${tx.array(
          events.map(({ at }) => new Date(at)),
          TIMESTAMPTZ,
        )}) with ordinality as q (cause, owner_id, type, payload, at, n)
        -- Each half reads by the owner: others' endpoints are not looked at.
        cross join lateral (
          select id, event_types, state, created_at from notifier.webhook_endpoints where owner_id = q.owner_id
          union all
          select id, event_types, state, created_at from notifier.webhook_endpoints where q.owner_id is null and owner_id is null
        ) e
      where e.state <> 'disabled'
        and (e.event_types = '{}' or q.type = any (e.event_types))
        and e.created_at <= q.at + interval '1 minute'
        and q.at > now() - interval '7 days'
      order by q.n
      on conflict (command_id) do nothing
      returning endpoint_id)
    select distinct endpoint_id as "endpointId" from stored`
  return rows.map(({ endpointId }) => endpointId)
}

/**
 * Those that took their last delivery, and those that did not, have never taken one, or answer with more than is read: they
 * are claimed apart.
 */
export type Health = 'well' | 'unwell'

/** Endpoints by their ids, locked; others that are due are not looked at. */
const ofIds = (sql: Database, ids: string[]) => sql`
  unnest(${ids}::uuid[]) as q (wanted) cross join lateral (
    select * from notifier.webhook_endpoints w where w.id = q.wanted limit 1 for no key update skip locked) e`

/**
 * Claims endpoints that have something due, those that have waited longest first; of those that are named, where some are. A
 * claim that runs out is another instance's to take: what a dying one had begun is sent again, under the same id.
 */
export const claimEndpoints = (
  sql: Database,
  { health, limit, claimMs, ids }: { health: Health; limit: number; claimMs: number; ids?: string[] },
): Promise<ClaimedEndpoint[]> =>
  sql<ClaimedEndpoint[]>`
    update notifier.webhook_endpoints
    set claim = gen_random_uuid(), claimed_until = now() + ${claimMs} * interval '1 millisecond'
    where id = any (array(
      -- The order and the limit in it keep this a look by key for each endpoint, past what it got before, however the tables
      -- grow.
      select e.id from ${ids === undefined ? sql`notifier.webhook_endpoints e` : ofIds(sql, ids)}
        cross join lateral (
          select from notifier.deliveries d
          where d.endpoint_id = e.id and d.state = 'due' and d.next_attempt_at <= now() and d.expires_at > now()
          order by d.next_attempt_at, d.seq limit 1) d
      where e.state = 'active' and e.next_attempt_at <= now()
        and ${health === 'well' ? sql`e.proven and e.failures = 0` : sql`not (e.proven and e.failures = 0)`}
        and (e.claimed_until is null or e.claimed_until < now())
      order by e.next_attempt_at limit ${limit} ${ids === undefined ? sql`for no key update of e skip locked` : sql``}))
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

/** It has come: the endpoint is well, unless its answer was more than is read. */
export const markDelivered = async (
  sql: Database,
  endpoint: ClaimedEndpoint,
  deliveryId: string,
  one: Try,
  isCut: boolean,
): Promise<void> => {
  await sql`
    with sent as (
      update notifier.deliveries set state = 'sent', sent_at = now(), last_error = null, ${addTry(sql, one)}
      where command_id = ${deliveryId} and state = 'due')
    update notifier.webhook_endpoints set failures = 0, failing_since = null, proven = ${!isCut}
    where id = ${endpoint.id} and claim = ${endpoint.claim} and (failing_since is not null or proven = ${isCut})`
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

/** The endpoint cannot be reached or serves nobody: all of its events wait, and its claim ends. */
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
      next_attempt_at = now() + ${pauseMs} * interval '1 millisecond', claim = null, claimed_until = null
    where id = ${endpoint.id} and claim = ${endpoint.claim}`
}

/** Gives an endpoint back, behind those that wait: the next instance may take it. */
export const releaseEndpoint = async (sql: Database, { id, claim }: ClaimedEndpoint): Promise<void> => {
  await sql`
    update notifier.webhook_endpoints
    set claim = null, claimed_until = null, next_attempt_at = greatest(next_attempt_at, now())
    where id = ${id} and claim = ${claim}`
}

/** Why an endpoint's state changes; the events of identity tell it. */
type StateReason = 'failing' | 'gone' | 'password_reset' | 'account_disabled'

/** What the rest of the transaction changes of endpoints has this reason. */
const sayWhy = (tx: Tx, reason: StateReason) =>
  tx`select set_config('pennywire.change', ${JSON.stringify({ reason })}, true)`

/**
 * Ends an endpoint that has failed for too long, or is gone. False where its claim is lost: its owner may have changed it
 * meanwhile. What is due for it fails in `failOfDisabled`.
 */
export const disableEndpoint = (
  sql: Database,
  { id, claim }: ClaimedEndpoint,
  reason: 'failing' | 'gone',
  also: (tx: Tx) => Promise<void>,
): Promise<boolean> =>
  sql.begin(async tx => {
    await sayWhy(tx, reason)
    const { count } = await tx`
      update notifier.webhook_endpoints set state = 'disabled', claim = null, claimed_until = null
      where id = ${id} and claim = ${claim} and state = 'active'`
    if (count === 0) return false
    await also(tx)
    return true
  })

/** An account that has passed, or may have passed, out of the hands of who made its endpoints. */
export type EndedAccount = { userId: string; reason: 'password_reset' | 'account_disabled'; at: number }

/**
 * Pauses the endpoints of accounts that ended: a stranger may have made them. Events wait, so that owners who turn theirs on
 * again miss none. An endpoint that was turned on since (a minute aside, by which clocks may differ) goes on: the event of the
 * end may come late, or once more.
 */
export const pauseEndpoints = async (tx: Tx, ended: EndedAccount[]): Promise<void> => {
  for (const reason of ['password_reset', 'account_disabled'] as const) {
    const of = ended.filter(one => one.reason === reason)
    if (of.length === 0) continue
    await sayWhy(tx, reason)
    await tx`
      update notifier.webhook_endpoints e set state = 'paused', claim = null, claimed_until = null
      from unnest(
        ${of.map(({ userId }) => userId)}::uuid[],
        ${tx.array(
          of.map(({ at }) => new Date(at)),
          TIMESTAMPTZ,
        )}) as q (user_id, at)
      where e.owner_id = q.user_id and e.state = 'active' and e.turned_on_at <= q.at + interval '1 minute'`
  }
}

/** One statement changes so many rows: none lasts long, however many there are. */
const ROWS = 5_000

/** Fails some of what is due to endpoints that are disabled. */
export const failOfDisabled = async (sql: Database): Promise<void> => {
  await sql`
    update notifier.deliveries set state = 'failed', last_error = 'ENDPOINT_DISABLED'
    where command_id = any (array(
      select d.command_id from notifier.webhook_endpoints e
        cross join lateral (
          select command_id from notifier.deliveries d
          where d.endpoint_id = e.id and d.state = 'due'
          order by d.next_attempt_at, d.seq limit ${ROWS} for no key update skip locked) d
      where e.state = 'disabled' limit ${ROWS}))`
}

/** An endpoint that failed and has nothing due any more begins anew: its next failure is its first. */
export const forgiveIdle = async (sql: Database): Promise<void> => {
  await sql`
    update notifier.webhook_endpoints e set failing_since = null, failures = 0
    where e.failing_since is not null and e.state = 'active'
      -- A look by key for each that fails: as a join it may read all that is due.
      and (
        select d.seq from notifier.deliveries d where d.endpoint_id = e.id and d.state = 'due'
        order by d.next_attempt_at, d.seq limit 1) is null`
}

export type EndpointSecrets = { id: string; secrets: SealedSecret[] }

/** The secrets of endpoints behind an id, in the order of the ids. */
export const readSecrets = (
  sql: Database,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<EndpointSecrets[]> =>
  sql<EndpointSecrets[]>`
    select id, secrets from notifier.webhook_endpoints
    where ${after === undefined ? sql`true` : sql`id > ${after}`} order by id limit ${limit}`

/** Puts secrets that were sealed anew in the place of the same ones; false where they have changed meanwhile. */
export const replaceSecrets = async (
  sql: Database,
  id: string,
  { from, to }: { from: SealedSecret[]; to: SealedSecret[] },
): Promise<boolean> => {
  const { count } = await sql`
    update notifier.webhook_endpoints set secrets = ${JSON.stringify(to)}::text::jsonb
    where id = ${id} and secrets = ${JSON.stringify(from)}::text::jsonb`
  return count === 1
}

/** Takes the addresses of changed endpoints, by the changes' names: events of users' webhooks do not hold them. */
export const takeChangedUrls = async (tx: Tx, changeIds: string[]): Promise<Map<string, string>> => {
  const rows = await tx<Array<{ id: string; url: string }>>`
    delete from notifier.changed_urls where id = any (${changeIds}::uuid[]) returning id, url`
  return new Map(rows.map(({ id, url }) => [id, url]))
}
