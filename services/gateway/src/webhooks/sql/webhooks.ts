import type { WebhookEventType } from '@pennywire/contracts/webhook-events.ts'
import { type Database, type Tx, UUID } from '@pennywire/runtime/database.ts'
import { causeHeaders } from '../../queues/request-scope.ts'

/** Whose endpoints: a user's, or the operator's (null). */
export type Owner = string | null

export type SealedSecret = { secret: string; expiresAt: string | null }

export type EndpointFacts = {
  id: string
  url: string
  description: string | null
  eventTypes: WebhookEventType[]
  state: 'active' | 'paused' | 'disabled'
  createdAt: Date
  failingSince: Date | null
}

export type Try = {
  at: string
  status: number | null
  error: string | null
  ms: number
  answer: string | null
}

export type DeliveryFacts = {
  id: string
  seq: bigint
  eventType: string
  payload: string
  state: 'due' | 'sent' | 'expired' | 'failed'
  attempts: number
  nextAttemptAt: Date
  createdAt: Date
  sentAt: Date | null
  tries: Try[]
}

/** Who changes an endpoint, and why where its owner did not ask for it. */
export type Change = {
  byUserId: string
  reason?: 'disabled_by_staff'
  /** What staff wrote, encrypted. */
  staffReason?: Buffer
}

/** Says whose change a transaction makes: what is told of it names them. */
const sayWho = (tx: Tx, { byUserId, reason, staffReason }: Change) =>
  tx`select set_config('pennywire.change', ${JSON.stringify({ byUserId, reason, staffReason: staffReason?.toString('base64'), cause: causeHeaders() })}, true)`

const COLUMNS = (sql: Database | Tx) => sql`
  id, url, description, event_types as "eventTypes", state, created_at as "createdAt", failing_since as "failingSince"`

const ownedBy = (sql: Database | Tx, owner: Owner) =>
  owner === null ? sql`owner_id is null` : sql`owner_id = ${owner}`

/** Adds an endpoint, unless the owner has so many already: requests for one owner take turns. */
export const insertEndpoint = (
  sql: Database,
  owner: Owner,
  endpoint: {
    id: string
    url: string
    description: string | null
    eventTypes: string[]
    secret: SealedSecret
  },
  most: number,
  by: Change,
): Promise<EndpointFacts | undefined> =>
  sql.begin(async tx => {
    // A statement of its own: the next one sees what was added while this one waited.
    await tx`select pg_advisory_xact_lock(hashtextextended(${`webhooks of ${owner}`}, 0))`
    await sayWho(tx, by)
    const [row] = await tx<EndpointFacts[]>`
      insert into notifier_api.webhook_endpoints (id, owner_id, url, description, event_types, secrets, state, created_at, failures, next_attempt_at, turned_on_at)
      select ${endpoint.id}, ${owner}, ${endpoint.url}, ${endpoint.description}, ${endpoint.eventTypes}::text[],
        ${JSON.stringify([endpoint.secret])}::text::jsonb, 'active', now(), 0, now(), now()
      where (select count(*) from notifier_api.webhook_endpoints where ${ownedBy(tx, owner)}) < ${most}
      returning ${COLUMNS(tx)}`
    return row
  })

export const listEndpoints = (sql: Database, owner: Owner): Promise<EndpointFacts[]> => sql<EndpointFacts[]>`
  select ${COLUMNS(sql)} from notifier_api.webhook_endpoints
  where ${ownedBy(sql, owner)} order by created_at, id`

export const readEndpoint = async (
  sql: Database,
  owner: Owner,
  id: string,
): Promise<EndpointFacts | undefined> => {
  const [row] = await sql<EndpointFacts[]>`
    select ${COLUMNS(sql)} from notifier_api.webhook_endpoints where id = ${id} and ${ownedBy(sql, owner)}`
  return row
}

export type EndpointChange = {
  url?: string | undefined
  description?: string | null | undefined
  eventTypes?: string[] | undefined
  active?: boolean | undefined
}

/**
 * Changes what is named. One that is turned on again begins at once, without its earlier failures. The notifier's claim ends:
 * what it goes on with then has the new address and secrets, and a try that is under way changes nothing of the endpoint.
 */
export const updateEndpoint = async (
  sql: Database,
  owner: Owner,
  id: string,
  { url, description, eventTypes, active }: EndpointChange,
  by: Change,
): Promise<EndpointFacts | undefined> =>
  sql.begin(async tx => {
    await sayWho(tx, by)
    const [row] = await tx<EndpointFacts[]>`
    update notifier_api.webhook_endpoints
    set url = coalesce(${url ?? null}, url),
      description = case when ${description !== undefined} then ${description ?? null} else description end,
      event_types = coalesce(${eventTypes ?? null}::text[], event_types),
      state = case ${active ?? null}::boolean when true then 'active' when false then 'paused' else state end,
      failing_since = case when ${active === true || url !== undefined} then null else failing_since end,
      failures = case when ${active === true || url !== undefined} then 0 else failures end,
      next_attempt_at = case when ${active === true || url !== undefined} then now() else next_attempt_at end,
      -- What has answered at another address says nothing of this one.
      proven = case when ${url !== undefined} then false else proven end,
      turned_on_at = case when ${active === true} then now() else turned_on_at end,
      claim = null, claimed_until = null
    where id = ${id} and ${ownedBy(tx, owner)}
    returning ${COLUMNS(tx)}`
    return row
  })

/** Turns an endpoint off until its owner turns it on again: what is due fails, what happens is not stored. */
export const disableEndpoint = (
  sql: Database,
  owner: Owner,
  id: string,
  by: Change,
): Promise<EndpointFacts | undefined> =>
  sql.begin(async tx => {
    await sayWho(tx, by)
    const [row] = await tx<EndpointFacts[]>`
      update notifier_api.webhook_endpoints set state = 'disabled', claim = null, claimed_until = null
      where id = ${id} and ${ownedBy(tx, owner)}
      returning ${COLUMNS(tx)}`
    return row
  })

/** Deletes an endpoint with its log. */
export const deleteEndpoint = (sql: Database, owner: Owner, id: string, by: Change): Promise<boolean> =>
  sql.begin(async tx => {
    await sayWho(tx, by)
    const { count } = await tx`
      delete from notifier_api.webhook_endpoints where id = ${id} and ${ownedBy(tx, owner)}`
    return count === 1
  })

/** Puts a new secret before the others, which end at `overlapEnds`; those that have ended are forgotten. */
export const rotateSecret = (
  sql: Database,
  owner: Owner,
  id: string,
  secret: SealedSecret,
  overlapEnds: Date,
  by: Change,
): Promise<EndpointFacts | undefined> =>
  sql.begin(async tx => {
    await sayWho(tx, by)
    const [row] = await tx<EndpointFacts[]>`
    update notifier_api.webhook_endpoints
    set secrets = ${JSON.stringify([secret])}::text::jsonb || coalesce((
      select jsonb_agg(jsonb_set(old.value, '{expiresAt}', to_jsonb(
        least((old.value->>'expiresAt')::timestamptz, ${overlapEnds}))) order by old.n)
      from jsonb_array_elements(secrets) with ordinality as old (value, n)
      where coalesce((old.value->>'expiresAt')::timestamptz > now(), true)), '[]'),
      claim = null, claimed_until = null
    where id = ${id} and ${ownedBy(tx, owner)}
    returning ${COLUMNS(tx)}`
    return row
  })

const DELIVERY = (sql: Database) => sql`
  id, seq, event_type as "eventType", payload, state, attempts, next_attempt_at as "nextAttemptAt",
  requested_at as "createdAt", sent_at as "sentAt", tries`

/** Stores a delivery that no event of the ledger causes: the test event. */
export const insertDelivery = async (
  sql: Database,
  delivery: {
    id: string
    endpointId: string
    owner: Owner
    eventType: string
    payload: string
    worthMs: number
  },
): Promise<DeliveryFacts> => {
  const { id, endpointId, owner, eventType, payload, worthMs } = delivery
  const [row] = await sql<[DeliveryFacts]>`
    insert into notifier_api.webhook_deliveries
      (id, channel, endpoint_id, user_id, event_type, payload, state, attempts, next_attempt_at, requested_at, expires_at, tries)
    values (${id}, 'webhook', ${endpointId}, ${owner}, ${eventType}, ${payload}, 'due', 0, now(), now(),
      now() + ${worthMs} * interval '1 millisecond', '[]')
    returning ${DELIVERY(sql)}`
  return row
}

/** An endpoint's deliveries with numbers below `before`, newest first; of one state where it is named. */
export const listDeliveries = (
  sql: Database,
  endpointId: string,
  { before, state, limit }: { before: bigint; state: string | undefined; limit: number },
): Promise<DeliveryFacts[]> => sql<DeliveryFacts[]>`
  select ${DELIVERY(sql)} from notifier_api.webhook_deliveries
  where endpoint_id = ${endpointId} and seq < ${before} and (${state ?? null}::text is null or state = ${state ?? null})
  order by seq desc limit ${limit}`

export const readDelivery = async (
  sql: Database,
  endpointId: string,
  id: string,
): Promise<DeliveryFacts | undefined> => {
  const [row] = await sql<DeliveryFacts[]>`
    select ${DELIVERY(sql)} from notifier_api.webhook_deliveries where endpoint_id = ${endpointId} and id = ${id}`
  return row
}

/** What is sent once more: one delivery, or those of a time that did not come. */
export type Redrive = { id: string } | { from: Date; to: Date }

/** Makes deliveries due again, under their ids; returns how many. */
export const redrive = async (
  sql: Database,
  endpointId: string,
  which: Redrive,
  worthMs: number,
): Promise<number> => {
  const chosen =
    'id' in which
      ? sql`id = ${which.id}`
      : sql`state in ('failed', 'expired') and requested_at >= ${which.from} and requested_at < ${which.to}`
  const { count } = await sql`
    update notifier_api.webhook_deliveries
    set state = 'due', sent_at = null, next_attempt_at = now(),
      expires_at = now() + ${worthMs} * interval '1 millisecond'
    where endpoint_id = ${endpointId} and ${chosen}`
  return count
}

/** A change of an endpoint that is not told yet. */
export type UntoldChange = {
  id: string
  kind: 'added' | 'changed' | 'removed'
  endpointId: string
  ownerId: Owner
  url: string
  eventTypes: string[]
  state: string
  changed: string[]
  byUserId: string | null
  reason: string | null
  staffReason: Buffer | null
  /** The headers that name the request; null: no request, or a change of a version before. */
  cause: Record<string, string> | null
  changedAt: Date
}

/**
 * Hands over the oldest changes that are not told yet, and forgets them once `tell` has resolved. One gateway at a time; false
 * where another one has its turn, or nothing is left.
 */
export const tellChanges = (
  sql: Database,
  limit: number,
  tell: (changes: UntoldChange[]) => Promise<void>,
): Promise<boolean> =>
  sql.begin(async tx => {
    const [turn] = await tx<[{ mine: boolean }]>`
      select pg_try_advisory_xact_lock(hashtextextended('changes of webhooks', 0)) as mine`
    if (!turn.mine) return false
    const changes = await tx<UntoldChange[]>`
      select id, kind, endpoint_id as "endpointId", owner_id as "ownerId", url, event_types as "eventTypes", state, changed,
        by_user_id as "byUserId", reason, staff_reason as "staffReason", cause, changed_at as "changedAt"
      from notifier_api.webhook_changes order by seq limit ${limit}`
    if (changes.length === 0) return false
    await tell(changes)
    await tx`
      delete from notifier_api.webhook_changes
      where id = any (${tx.array(
        changes.map(({ id }) => id),
        UUID,
      )})`
    return changes.length === limit
  })
