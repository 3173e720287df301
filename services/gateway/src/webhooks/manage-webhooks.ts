import { randomBytes, randomUUID } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Announce } from '../identity/events/announce.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import {
  type Change,
  type DeliveryFacts,
  deleteEndpoint,
  disableEndpoint,
  type EndpointChange,
  type EndpointFacts,
  insertDelivery,
  insertEndpoint,
  listDeliveries,
  listEndpoints,
  type Owner,
  type Redrive,
  readDelivery,
  readEndpoint,
  redrive,
  rotateSecret,
  updateEndpoint,
} from './sql/webhooks.ts'
import { brokenUrlRule } from './webhook-url.ts'

/** Endpoints that one owner may have. */
const MOST = 20
/** How long a test event, or one that is sent again, is tried. */
const WORTH_MS = 72 * 60 * 60 * 1_000
/** The purpose under which what staff write about turning a webhook off is sealed for its owner. */
export const STAFF_REASON_PURPOSE = 'webhook-disabled-reason'
/** By Standard Webhooks 24 to 64 bytes. */
const SECRET_BYTES = 32

/** Who changes an endpoint: its owner, or a member of staff. Their changes are told in `identity.events`. */
export type Webhooks = {
  create: (
    owner: Owner,
    endpoint: { url: string; description: string | null; eventTypes: string[] },
    byUserId: string,
  ) => Promise<EndpointFacts & { secret: string }>
  list: (owner: Owner) => Promise<EndpointFacts[]>
  /** Throws WEBHOOK_NOT_FOUND, as all below. */
  read: (owner: Owner, id: string) => Promise<EndpointFacts>
  change: (owner: Owner, id: string, change: EndpointChange, byUserId: string) => Promise<EndpointFacts>
  /** Turns a user's endpoint off, with what staff write about it. */
  disable: (userId: string, id: string, staff: { byUserId: string; reason: string }) => Promise<EndpointFacts>
  remove: (owner: Owner, id: string, byUserId: string) => Promise<void>
  rotate: (
    owner: Owner,
    id: string,
    overlapSeconds: number,
    byUserId: string,
  ) => Promise<EndpointFacts & { secret: string }>
  test: (owner: Owner, id: string) => Promise<DeliveryFacts>
  deliveries: (
    owner: Owner,
    id: string,
    page: { before: bigint; state: string | undefined; limit: number },
  ) => Promise<DeliveryFacts[]>
  /** Throws WEBHOOK_DELIVERY_NOT_FOUND. */
  delivery: (owner: Owner, id: string, deliveryId: string) => Promise<DeliveryFacts>
  redrive: (owner: Owner, id: string, which: Redrive) => Promise<number>
}

/** Webhook endpoints, through the notifier's views: what is due to them the notifier delivers. */
export const createManageWebhooks = (deps: {
  notifier: Database
  announce: Pick<Announce, 'sealForNotifier'>
  personKeys: Pick<PersonKeys, 'encryptFor'>
  /** Called after each change: it is to be told. */
  changed: () => void
  allowPrivate: boolean
  clock: Clock
}): Webhooks => {
  const { notifier, announce, personKeys, changed, allowPrivate, clock } = deps

  const found = (endpoint: EndpointFacts | undefined): EndpointFacts => {
    if (!endpoint) throw new ProblemError('WEBHOOK_NOT_FOUND', 'id: there is no such webhook.')
    return endpoint
  }
  const checkUrl = (url: string | undefined) => {
    const rule = url === undefined ? undefined : brokenUrlRule(url, { allowPrivate })
    if (rule !== undefined) throw validationProblem([{ field: 'url', rule }])
  }
  /** A new secret: as its owner gets it once, and as it is stored. */
  const draw = async () => {
    const secret = `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`
    return { secret, sealed: { secret: await announce.sealForNotifier({ secret }), expiresAt: null } }
  }
  const readOwn = async (owner: Owner, id: string) => found(await readEndpoint(notifier, owner, id))

  return {
    create: async (owner, endpoint, byUserId) => {
      checkUrl(endpoint.url)
      const { secret, sealed } = await draw()
      const made = await insertEndpoint(
        notifier,
        owner,
        { id: randomUUID(), ...endpoint, secret: sealed },
        MOST,
        { byUserId },
      )
      if (!made) throw new ProblemError('TOO_MANY_WEBHOOKS', `At most ${MOST} webhooks; delete one first.`)
      changed()
      return { ...made, secret }
    },
    list: owner => listEndpoints(notifier, owner),
    read: readOwn,
    change: async (owner, id, change, byUserId) => {
      checkUrl(change.url)
      const endpoint = found(await updateEndpoint(notifier, owner, id, change, { byUserId }))
      changed()
      return endpoint
    },
    disable: async (userId, id, { byUserId, reason }) => {
      const by: Change = {
        byUserId,
        reason: 'disabled_by_staff',
        staffReason: await personKeys.encryptFor(userId, reason, STAFF_REASON_PURPOSE),
      }
      const endpoint = found(await disableEndpoint(notifier, userId, id, by))
      changed()
      return endpoint
    },
    remove: async (owner, id, byUserId) => {
      if (!(await deleteEndpoint(notifier, owner, id, { byUserId }))) found(undefined)
      changed()
    },
    rotate: async (owner, id, overlapSeconds, byUserId) => {
      const { secret, sealed } = await draw()
      const overlapEnds = new Date(clock.now() + overlapSeconds * 1_000)
      const endpoint = found(await rotateSecret(notifier, owner, id, sealed, overlapEnds, { byUserId }))
      changed()
      return { ...endpoint, secret }
    },
    test: async (owner, id) => {
      await readOwn(owner, id)
      const eventType = 'webhook.test'
      const timestamp = new Date(clock.now()).toISOString()
      const payload = JSON.stringify({ type: eventType, timestamp, data: { webhookId: id } })
      return insertDelivery(notifier, {
        ...{ id: randomUUID(), endpointId: id, owner, eventType, payload, worthMs: WORTH_MS },
      })
    },
    deliveries: async (owner, id, page) => {
      await readOwn(owner, id)
      return listDeliveries(notifier, id, page)
    },
    delivery: async (owner, id, deliveryId) => {
      await readOwn(owner, id)
      const delivery = await readDelivery(notifier, id, deliveryId)
      if (!delivery) {
        throw new ProblemError('WEBHOOK_DELIVERY_NOT_FOUND', 'deliveryId: there is no such delivery.')
      }
      return delivery
    },
    redrive: async (owner, id, which) => {
      await readOwn(owner, id)
      const count = await redrive(notifier, id, which, WORTH_MS)
      if (count === 0 && 'id' in which) {
        throw new ProblemError('WEBHOOK_DELIVERY_NOT_FOUND', 'deliveryId: there is no such delivery.')
      }
      return count
    },
  }
}
