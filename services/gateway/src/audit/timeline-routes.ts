import { createRoute, z } from '@hono/zod-openapi'
import { idsOfReference, referenceOf } from '@pennywire/contracts/ids.ts'
import {
  type Guards,
  jsonAnswer,
  momentParam,
  newRoutes,
  problemResponses,
  type Routes,
  STAFF_PROBLEMS,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import { money, moneyOut } from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { ProvenBalance } from './sql/timeline-reads.ts'
import type { Stage, Timeline } from './timeline.ts'

export type TimelineRouteDeps = {
  guards: Guards
  timelineOf: (transferId: string) => Promise<Timeline | undefined>
  /** The transfers that have a reference: one, or by an astronomic chance more. */
  findByReference: (first: string, last: string) => Promise<string[]>
  readProvenBalance: (walletId: string, at: Date | null) => Promise<ProvenBalance | undefined>
  /** Where the trail holds the event of an entry, and whether that states the balance. */
  proveEntry: (
    balance: ProvenBalance,
  ) => Promise<{ offset: number; statesBalance: boolean; verified: boolean } | null>
}

const stageSchema = z
  .object({
    stage: z.enum([
      ...(['request', 'command', 'decision', 'event', 'audit', 'gateway', 'notifier'] as const),
      ...(['payment', 'notice', 'mail', 'webhook'] as const),
    ]),
    state: z.enum(['done', 'pending', 'failed', 'unknown']),
    at: timestamp.nullable().openapi({ description: 'By the clock of the one who did it; null: not stored' }),
    sinceBeginMs: z
      .int()
      .nullable()
      .openapi({ example: 12, description: 'Since the first stage. Clocks of machines differ a little' }),
    sincePreviousMs: z.int().nullable().openapi({ example: 4, description: 'Since the stage before' }),
    name: z.string().nullable().openapi({ example: 'TransferCompleted' }),
    commandId: z.uuid().nullable(),
    record: z
      .object({
        topic: z.string().openapi({ example: 'ledger.events' }),
        partition: z.int().openapi({ example: 3 }),
        offset: z.int().nullable().openapi({ example: 1207 }),
        eventId: z.string().nullable().openapi({ example: '3-1190' }),
      })
      .nullable(),
    requestId: z.string().nullable(),
    traceId: z.string().nullable().openapi({ example: '4bf92f3577b34da6a3ce929d0e0e4736' }),
    actor: z
      .object({ userId: z.uuid().nullable(), role: z.string().nullable().openapi({ example: 'user' }) })
      .nullable(),
    detail: z
      .string()
      .nullable()
      .openapi({ example: 'INSUFFICIENT_BALANCE: amount: is above the available balance' }),
    delivery: z
      .object({
        id: z.uuid(),
        userId: z.uuid().nullable(),
        webhookId: z.uuid().nullable(),
        origin: z.string().nullable().openapi({
          example: 'https://hooks.example.com',
          description: "Of a webhook's URL: the rest may be a secret",
        }),
        attempts: z.int().openapi({ example: 1 }),
        nextAttemptAt: timestamp.nullable(),
        tries: z.array(
          z.object({
            at: timestamp,
            status: z.int().nullable().openapi({ example: 200 }),
            error: z.string().nullable().openapi({ example: 'HTTP 503' }),
            ms: z.int().openapi({ example: 84 }),
          }),
        ),
      })
      .nullable(),
  })
  .openapi('TimelineStage')

const timelineSchema = z
  .object({
    transferId: z.uuid(),
    reference: z.string().openapi({ example: 'TXN-6J3V0G8Q2KXA' }),
    type: z.string().nullable().openapi({ example: 'transfer' }),
    status: z.enum(['pending', 'completed', 'rejected']),
    traceIds: z.array(z.string().openapi({ example: '4bf92f3577b34da6a3ce929d0e0e4736' })),
    pending: z.array(z.string()).openapi({ description: 'The stages that are still to come', example: [] }),
    stages: z.array(stageSchema),
    entries: z.array(
      z.object({
        transferId: z.uuid(),
        walletId: z.uuid(),
        userId: z.uuid().nullable(),
        system: z
          .string()
          .nullable()
          .openapi({ example: null, description: 'The name of a system wallet, which has no user' }),
        sequence: z.int().openapi({ example: 12 }),
        amount: moneyOut,
        balanceAfter: moneyOut,
        currency: z.string().openapi({ example: 'USD' }),
      }),
    ),
  })
  .openapi('TransferTimeline')

const UUID_OR_REFERENCE = /^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|TXN-[0-9A-Z]{12})$/i

const timelineRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/transfers/{id}/timeline',
    tags: ['Staff'],
    summary: 'Follows a transfer from the request to every consumer',
    description:
      'A transfer, deposit, withdrawal, hold or reversal, decided, refused or still on its way: request, command in Kafka, ' +
      "decision, event in Kafka, each consumer, notices, mails and webhooks with their tries, and the provider's payment. " +
      'A hold or a reversed transfer has the commands that followed it as well. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: {
      params: z.object({
        id: z
          .string()
          .regex(UUID_OR_REFERENCE, 'must be a UUID, or a reference such as TXN-6J3V0G8Q2KXA')
          .openapi({
            example: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
            description: 'The id of the transfer, or its reference',
          }),
      }),
    },
    responses: {
      200: jsonAnswer('Its way', timelineSchema),
      ...problemResponses('TRANSFER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const balanceRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/wallets/{id}/balance',
    tags: ['Staff'],
    summary: "Proves any wallet's balance, now or at a moment",
    description:
      'The balance after the last entry decided by then, with the event that states it: 0 and no proof before the first ' +
      'entry, also before the wallet was opened. System wallets have balances too. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: {
      params: z.object({ id: uuidParam }),
      query: z.strictObject({
        at: momentParam.optional().openapi({
          type: 'string',
          format: 'date-time',
          example: '2026-01-31T09:30:00Z',
          description: 'RFC 3339; now where it is missing. Not in the future',
        }),
      }),
    },
    responses: {
      200: jsonAnswer(
        'The balance',
        z
          .object({
            walletId: z.uuid(),
            userId: z.uuid().nullable(),
            system: z
              .string()
              .nullable()
              .openapi({ example: null, description: 'The name of a system wallet' }),
            balance: moneyOut,
            currency: z.string().openapi({ example: 'USD' }),
            at: timestamp,
            openedAt: timestamp,
            sequence: z.int().openapi({ example: 12, description: 'How many entries the wallet had' }),
            proof: z
              .object({
                transferId: z.uuid(),
                decidedAt: timestamp,
                eventId: z.string().openapi({ example: '3-1190' }),
                topic: z.string().openapi({ example: 'ledger.events' }),
                partition: z.int().openapi({ example: 3 }),
                offset: z
                  .int()
                  .nullable()
                  .openapi({ example: 1207, description: 'null: the audit trail does not hold it yet' }),
                statesBalance: z
                  .boolean()
                  .nullable()
                  .openapi({ description: 'Whether the event, as recorded, states this balance' }),
                verified: z
                  .boolean()
                  .nullable()
                  .openapi({ description: "Whether the hash of the trail's record is right" }),
              })
              .nullable(),
          })
          .openapi('ProvenBalance'),
      ),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

/** Each stage with the time since the first one and the one before, as far as their times are known. */
const withDurations = (stages: Stage[]): z.output<typeof stageSchema>[] => {
  const first = stages.find(({ at }) => at !== null)?.at
  let previous: string | null = null
  return stages.map(stage => {
    const since = (from: string | null | undefined) =>
      stage.at === null || from == null ? null : Date.parse(stage.at) - Date.parse(from)
    const view = { ...stage, sinceBeginMs: since(first), sincePreviousMs: since(previous) }
    if (stage.at !== null) previous = stage.at
    return view
  })
}

/** What became of a transfer, and what a wallet held, for staff. */
export const timelineRoutes = (deps: TimelineRouteDeps): Routes => {
  const routes = newRoutes()

  const idsOf = async (text: string): Promise<string[]> => {
    const range = idsOfReference(text)
    return range ? deps.findByReference(range.first, range.last) : [text.toLowerCase()]
  }

  routes.openapi(timelineRoute(deps.guards), async context => {
    const { id } = context.req.valid('param')
    const ids = await idsOf(id)
    const timeline = ids[0] === undefined ? undefined : await deps.timelineOf(ids[0])
    if (!timeline) throw new ProblemError('TRANSFER_NOT_FOUND', 'id: there is no such transfer')
    // The record of the view names what stands in the path: of a reference, the transfer too.
    if (id.toLowerCase() !== timeline.transferId) context.set('viewed', [timeline.transferId])
    const reference = referenceOf(timeline.transferId)
    return context.json({ ...timeline, reference, stages: withDurations(timeline.stages) }, 200)
  })

  routes.openapi(balanceRoute(deps.guards), async context => {
    const { at } = context.req.valid('query')
    const moment = at === undefined ? null : new Date(at)
    const found = await deps.readProvenBalance(context.req.valid('param').id, moment)
    if (!found) throw new ProblemError('WALLET_NOT_FOUND', 'id: there is no such wallet')
    // The ledger's clock decides, which is the database's.
    if (moment !== null && moment > found.now) {
      throw validationProblem([
        { field: 'at', rule: `must not be in the future (now: ${found.now.toISOString()})` },
      ])
    }
    const { transferId, decidedAt, partition, seq } = found
    const hasEntry = transferId !== null && decidedAt !== null && partition !== null && seq !== null
    const proven = hasEntry ? await deps.proveEntry(found) : null
    return context.json(
      {
        walletId: found.id,
        userId: found.userId,
        system: found.system,
        balance: money(found.balance, found.currency),
        currency: found.currency,
        at: (moment ?? found.now).toISOString(),
        openedAt: found.openedAt.toISOString(),
        sequence: Number(found.sequence),
        proof: hasEntry
          ? {
              ...{ transferId, decidedAt: decidedAt.toISOString(), eventId: `${partition}-${seq}` },
              ...{ topic: 'ledger.events', partition, offset: proven?.offset ?? null },
              ...{ statesBalance: proven?.statesBalance ?? null, verified: proven?.verified ?? null },
            }
          : null,
      },
      200,
    )
  })

  return routes
}
