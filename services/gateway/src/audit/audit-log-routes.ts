import { isIP } from 'node:net'
import { createRoute, z } from '@hono/zod-openapi'
import { SUBJECT_KINDS, type Subject } from '@pennywire/contracts/log-entry.ts'
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import { ROLES } from '../access/roles.ts'
import { plainAddress } from '../http/client-address.ts'
import {
  cursorParam,
  type Guards,
  jsonAnswer,
  limitParam,
  momentParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  STAFF_PROBLEMS,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import { validationProblem } from '../problems/problem.ts'
import type { FoundRecord, LogFilter, LogPosition } from './sql/trail-reads.ts'
import { dataOf, type OpenRecord, shownChangeOf, timeOf } from './trail.ts'

export type AuditLogDeps = {
  guards: Guards
  find: (
    filter: LogFilter,
    before: LogPosition | null,
    limit: number,
  ) => Promise<{ found: FoundRecord[]; next: LogPosition | null }>
  open: (found: readonly FoundRecord[]) => Promise<OpenRecord[]>
  openReasons: (opened: readonly OpenRecord[]) => Promise<Array<string | null>>
  hashAddress: (address: string) => string
}

const ACTIONS = [
  ...new Set(RECORD_NAMES.map(name => name.slice(name.lastIndexOf('.') + 1))),
  'unknown',
].sort() as [string, ...string[]]

const moment = momentParam.transform(text => new Date(text).getTime()).optional()
const momentDoc = (description: string) => ({
  type: 'string' as const,
  format: 'date-time',
  example: '2026-01-31T09:30:00Z',
  description,
})

const recordSchema = z
  .object({
    id: z.string().openapi({
      example: 'ledger.events/0/3/1207',
      description: 'Where it stands in the trail: topic, epoch, partition, offset',
    }),
    topic: z.string().openapi({ example: 'ledger.events' }),
    epoch: z.int().openapi({ example: 0 }),
    partition: z.int().openapi({ example: 3 }),
    offset: z.int().openapi({ example: 1207 }),
    at: timestamp.nullable().openapi({ description: "The record's time; null where it states none" }),
    recordedAt: timestamp.openapi({ description: 'When it was added to the trail' }),
    verified: z.boolean().openapi({
      description:
        'Whether its hash follows from its bytes and the one before; `audit:verify` proves the rest',
    }),
    action: z.string().openapi({ example: 'WalletFrozen', description: "The record's name, or `unknown`" }),
    actor: z
      .object({
        userId: z.uuid().nullable(),
        role: z.string().nullable().openapi({ example: 'moderator', description: 'Their highest role then' }),
        apiKeyId: z.uuid().nullable(),
      })
      .nullable()
      .openapi({ description: 'Who did it; null: the system, or unknown' }),
    requestId: z.string().nullable().openapi({ example: '0b9a3c0e-6b1e-4a53-8f6a-2d2f0c9f4a55' }),
    traceId: z.string().nullable().openapi({ example: '4bf92f3577b34da6a3ce929d0e0e4736' }),
    addressHash: z
      .string()
      .nullable()
      .openapi({ example: 'a1.x1Yk…', description: 'The keyed hash of the network address' }),
    refusal: z
      .string()
      .nullable()
      .openapi({ example: 'INSUFFICIENT_BALANCE', description: 'Of a refusal: its code' }),
    subjects: z
      .array(z.object({ kind: z.enum(SUBJECT_KINDS), id: z.uuid() }))
      .openapi({ description: 'What it names' }),
    change: z
      .object({ before: z.record(z.string(), z.unknown()), after: z.record(z.string(), z.unknown()) })
      .nullable()
      .openapi({ example: { before: { frozenBy: null }, after: { frozenBy: 'staff' } } }),
    reason: z
      .string()
      .nullable()
      .openapi({ example: 'Reported as stolen, case 4711', description: 'What a person gave as the reason' }),
    data: z
      .record(z.string(), z.unknown())
      .nullable()
      .openapi({
        example: { source: 'staff' },
        description:
          'Its fields as docs/events.md has them, without ciphertext and secrets; amounts in minor units as text. null: no schema reads it',
      }),
  })
  .openapi('AuditRecord')

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/audit-logs',
    tags: ['Staff'],
    summary: 'Searches the audit trail, newest first',
    description:
      'Every record of every topic: requests, outcomes, refusals, sign-ins, staff actions, and what staff were shown. ' +
      'A record must meet all the filters. A page of a rare combination may hold fewer records than `limit`, or none, and ' +
      'still have a `nextCursor`. A record is found within seconds of its event. The search is recorded with the records ' +
      'that it showed. Needs admin.',
    ...signedIn({ role: 'admin' }),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        actorId: uuidParam.optional().openapi({ description: 'Who did it' }),
        role: z.enum(ROLES).optional().openapi({ description: 'Their highest role then' }),
        action: z.enum(ACTIONS).optional().openapi({ example: 'WalletFrozen' }),
        targetKind: z.enum(SUBJECT_KINDS).optional().openapi({ description: 'With `targetId`' }),
        targetId: uuidParam.optional().openapi({ description: 'With `targetKind`: what the record names' }),
        userId: uuidParam.optional().openapi({ description: 'Names this user, in any part' }),
        walletId: uuidParam.optional(),
        transferId: uuidParam.optional(),
        requestId: z
          .string()
          .regex(/^[A-Za-z0-9._-]{1,128}$/, 'must be 1 to 128 of A-Z a-z 0-9 . _ -')
          .optional(),
        traceId: z
          .string()
          .regex(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits in lower case')
          .optional(),
        address: z
          .string()
          .max(45)
          .refine(text => isIP(text) !== 0, 'must be an IPv4 or IPv6 address')
          .optional()
          .openapi({
            example: '192.0.2.7',
            description: 'A network address; it is hashed here and stored nowhere',
          }),
        topic: z
          .enum(RECORDED_TOPICS as [string, ...string[]])
          .optional()
          .openapi({ example: 'ledger.events' }),
        refused: z.enum(['true']).optional().openapi({ description: '`true`: refusals alone' }),
        refusal: z
          .string()
          .regex(/^[A-Za-z0-9_]{1,64}$/, 'must be a code such as INSUFFICIENT_BALANCE')
          .optional(),
        from: moment.openapi(momentDoc('From this moment on')),
        to: moment.openapi(momentDoc('Before this moment')),
      }),
    },
    responses: {
      200: jsonAnswer('A page of records', pageOf(recordSchema)),
      ...problemResponses('VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const readPosition = (cursor: string | undefined): LogPosition | null => {
  if (cursor === undefined) return null
  const [, timeMs, id] =
    /^(-?\d{1,19})\.(\d{1,18})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ?? []
  // A producer may set any time that eight bytes hold.
  const isTime = timeMs !== undefined && BigInt.asIntN(64, BigInt(timeMs)) === BigInt(timeMs)
  if (!isTime || id === undefined)
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  return { timeMs: BigInt(timeMs), id: BigInt(id) }
}

const placeOf = ({ topic, epoch, partition, offset }: FoundRecord | OpenRecord['stored']) =>
  `${topic}/${epoch}/${partition}/${offset}`

const viewRecord = (opened: OpenRecord, reason: string | null): z.output<typeof recordSchema> => {
  const { stored, entry, record, verified } = opened
  const { actorId: userId, actorRole: role, actorKey: apiKeyId } = entry
  return {
    id: placeOf(stored),
    topic: stored.topic,
    epoch: stored.epoch,
    partition: stored.partition,
    offset: Number(stored.offset),
    at: timeOf(stored.timestampMs),
    recordedAt: stored.recordedAt.toISOString(),
    verified,
    action: entry.action,
    actor: userId === null && role === null && apiKeyId === null ? null : { userId, role, apiKeyId },
    requestId: entry.requestId,
    traceId: entry.traceId,
    addressHash: entry.addressHash,
    refusal: entry.refusal,
    subjects: entry.subjects,
    change: record && shownChangeOf(record),
    reason,
    data: record && dataOf(record),
  }
}

/** The search of the audit trail, for staff. */
export const auditLogRoutes = (deps: AuditLogDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(listRoute(deps.guards), async context => {
    const { limit, cursor, targetKind, targetId, userId, walletId, transferId, ...query } =
      context.req.valid('query')
    const { from, to, address, role, refused, ...exact } = query
    if ((targetKind === undefined) !== (targetId === undefined))
      throw validationProblem([
        { field: targetId === undefined ? 'targetId' : 'targetKind', rule: 'is required with the other one' },
      ])
    // The most selective first.
    const subjects: Subject[] = []
    if (transferId !== undefined) subjects.push({ kind: 'transfer', id: transferId })
    if (targetKind !== undefined && targetId !== undefined) subjects.push({ kind: targetKind, id: targetId })
    if (walletId !== undefined) subjects.push({ kind: 'wallet', id: walletId })
    if (userId !== undefined) subjects.push({ kind: 'user', id: userId })
    const filter: LogFilter = {
      ...exact,
      subjects,
      addressHash: address === undefined ? undefined : deps.hashAddress(plainAddress(address)),
      actorRole: role,
      refused: refused === 'true',
      since: from,
      until: to,
    }
    const { found, next } = await deps.find(filter, readPosition(cursor), limit)
    const opened = await deps.open(found)
    const reasons = await deps.openReasons(opened)
    // What was searched for tells as much as what was found.
    context.set('viewed', [...subjects.map(({ kind, id }) => `${kind}:${id}`), ...found.map(placeOf)])
    const nextCursor = next && Buffer.from(`${next.timeMs}.${next.id}`).toString('base64url')
    return context.json({ items: opened.map((one, n) => viewRecord(one, reasons[n]!)), nextCursor }, 200)
  })

  return routes
}
