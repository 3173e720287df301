import type { WebhookEventType } from '@pennywire/contracts/webhook-events.ts'
import type { Database } from '@pennywire/runtime/database.ts'

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

const COLUMNS = (sql: Database) => sql`
  id, url, description, event_types as "eventTypes", state, created_at as "createdAt", failing_since as "failingSince"`

const ownedBy = (sql: Database, owner: Owner) =>
  owner === null ? sql`owner_id is null` : sql`owner_id = ${owner}`

/** Adds an endpoint, unless the owner has so many already. */
export const insertEndpoint = async (
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
): Promise<EndpointFacts | undefined> => {
  const [row] = await sql<EndpointFacts[]>`
    insert into notifier_api.webhook_endpoints (id, owner_id, url, description, event_types, secrets, state, created_at, failures, next_attempt_at)
    select ${endpoint.id}, ${owner}, ${endpoint.url}, ${endpoint.description}, ${endpoint.eventTypes}::text[],
      ${JSON.stringify([endpoint.secret])}::text::jsonb, 'active', now(), 0, now()
    where (select count(*) from notifier_api.webhook_endpoints where ${ownedBy(sql, owner)}) < ${most}
    returning ${COLUMNS(sql)}`
  return row
}

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
): Promise<EndpointFacts | undefined> => {
  const [row] = await sql<EndpointFacts[]>`
    update notifier_api.webhook_endpoints
    set url = coalesce(${url ?? null}, url),
      description = case when ${description !== undefined} then ${description ?? null} else description end,
      event_types = coalesce(${eventTypes ?? null}::text[], event_types),
      state = case ${active ?? null}::boolean when true then 'active' when false then 'paused' else state end,
      failing_since = case when ${active === true || url !== undefined} then null else failing_since end,
      failures = case when ${active === true || url !== undefined} then 0 else failures end,
      next_attempt_at = case when ${active === true || url !== undefined} then now() else next_attempt_at end,
      claim = null, claimed_until = null
    where id = ${id} and ${ownedBy(sql, owner)}
    returning ${COLUMNS(sql)}`
  return row
}

/** Deletes an endpoint with its log. */
export const deleteEndpoint = async (sql: Database, owner: Owner, id: string): Promise<boolean> => {
  const { count } = await sql`
    delete from notifier_api.webhook_endpoints where id = ${id} and ${ownedBy(sql, owner)}`
  return count === 1
}

/** Puts a new secret before the others, which end at `overlapEnds`; those that have ended are forgotten. */
export const rotateSecret = async (
  sql: Database,
  owner: Owner,
  id: string,
  secret: SealedSecret,
  overlapEnds: Date,
): Promise<EndpointFacts | undefined> => {
  const [row] = await sql<EndpointFacts[]>`
    update notifier_api.webhook_endpoints
    set secrets = ${JSON.stringify([secret])}::text::jsonb || coalesce((
      select jsonb_agg(jsonb_set(old.value, '{expiresAt}', to_jsonb(
        least((old.value->>'expiresAt')::timestamptz, ${overlapEnds}))) order by old.n)
      from jsonb_array_elements(secrets) with ordinality as old (value, n)
      where coalesce((old.value->>'expiresAt')::timestamptz > now(), true)), '[]'),
      claim = null, claimed_until = null
    where id = ${id} and ${ownedBy(sql, owner)}
    returning ${COLUMNS(sql)}`
  return row
}

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
