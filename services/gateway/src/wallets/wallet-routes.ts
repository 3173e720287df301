import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { GatewayEnv } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  currencyCode,
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  KEY_PROBLEMS,
  limitParam,
  newRoutes,
  optionalJsonBody,
  pageOf,
  problemResponses,
  type Routes,
  reasonField,
  SIGNED_IN_PROBLEMS,
  uuidParam,
} from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { EntryFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { readOptionalKey } from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import { lastEventId, STREAM_DESCRIPTION, streamAnswer } from '../streams/event-stream.ts'
import type { Feed, LiveStreams } from '../streams/live-streams.ts'
import type { ChangeWallet } from './change-wallet.ts'
import { entrySchema, viewEntries } from './entry-view.ts'
import type { createOpenWallet } from './open-wallet.ts'
import { viewWallets, walletSchema } from './wallet-view.ts'

export type WalletDeps = {
  guards: Guards
  names: Names
  personKeys: PersonKeys
  changeWallet: ChangeWallet
  openWallet: ReturnType<typeof createOpenWallet>
  readWalletOf: (userId: string, id: string) => Promise<WalletFacts | undefined>
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  readEntries: (walletId: string, before: bigint, limit: number) => Promise<EntryFacts[]>
  streams: Pick<LiveStreams, 'open'>
  feed: Feed
  readNewestEntry: (
    userId: string,
    walletId: string,
  ) => Promise<{ sequence: bigint; currency: string } | undefined>
  readEntriesAfter: (walletId: string, after: bigint, limit: number) => Promise<EntryFacts[]>
}

const LAST_SEQUENCE = 2n ** 62n
const LABEL_MAX = 50

const walletParams = z.object({ id: uuidParam })

const openRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/wallets',
    tags: ['Wallets'],
    summary: 'Opens a wallet',
    description: 'One wallet per user and currency, in any ISO 4217 currency in use.',
    ...signedIn({ guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ currency: currencyCode })) },
    responses: {
      201: jsonAnswer('The wallet', walletSchema),
      ...problemResponses('WALLET_ALREADY_EXISTS', ...SIGNED_IN_PROBLEMS, ...BODY_PROBLEMS),
    },
  })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets',
    tags: ['Wallets'],
    summary: 'Lists your wallets, oldest first',
    ...signedIn({ scope: 'wallets:read' }),
    request: { query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('Your wallets', pageOf(walletSchema)),
      ...problemResponses('VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets/{id}',
    tags: ['Wallets'],
    summary: 'Shows one of your wallets',
    ...signedIn({ scope: 'wallets:read' }),
    request: { params: walletParams },
    responses: {
      200: jsonAnswer('The wallet', walletSchema),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const entriesRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets/{id}/entries',
    tags: ['Wallets'],
    summary: "Lists a wallet's entries, newest first",
    ...signedIn({ scope: 'wallets:read' }),
    request: { params: walletParams, query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('Entries', pageOf(entrySchema)),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const entryStreamRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets/{id}/entries/stream',
    tags: ['Wallets'],
    summary: "Streams a wallet's entries as they are booked",
    description: `${STREAM_DESCRIPTION} Each event \`entry\` has an Entry as its data; its id is the entry's sequence.`,
    ...signedIn({ scope: 'wallets:read', ownTurns: true }),
    request: { params: walletParams, headers: z.object({ 'last-event-id': lastEventId }) },
    responses: {
      200: streamAnswer(
        'Entries, oldest first',
        'retry: 2711\nid: 11\nevent: ready\ndata: {}\n\nid: 12\nevent: entry\ndata: {"sequence": 12, …}\n\n',
      ),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

/** Documents the optional Idempotency-Key header. */
export const optionalKeyHeader = z.object({
  'idempotency-key': z.string().optional().openapi({
    description: 'May be left out. With one, a repeat is answered with the first outcome, a refusal too.',
    example: 'freeze-2026-01-31',
  }),
})

const freezeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/wallets/{id}/freeze',
    tags: ['Wallets'],
    summary: 'Freezes one of your wallets',
    description:
      'No money leaves it from then on, and it cannot be closed; it still receives. You lift it yourself. ' +
      'Holds that were placed before may still be captured: that money was promised.',
    ...signedIn({ guardsMoney: true }),
    request: {
      params: walletParams,
      headers: optionalKeyHeader,
      body: optionalJsonBody(
        z.strictObject({ reason: reasonField.nullish().openapi({ example: 'My phone was stolen' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The wallet, frozen', walletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_ALREADY_FROZEN',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...SIGNED_IN_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const unfreezeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/wallets/{id}/unfreeze',
    tags: ['Wallets'],
    summary: 'Lifts your own freeze of one of your wallets',
    description:
      'Only a freeze of your own (`source` self). What wrong PINs or staff froze, staff lift: `FREEZE_NOT_YOURS`.',
    ...signedIn({ guardsMoney: true }),
    request: {
      params: walletParams,
      headers: optionalKeyHeader,
      body: optionalJsonBody(z.strictObject({})),
    },
    responses: {
      200: jsonAnswer('The wallet, active', walletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_NOT_FROZEN',
        'FREEZE_NOT_YOURS',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...SIGNED_IN_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const renameRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'patch',
    path: '/v1/wallets/{id}',
    tags: ['Wallets'],
    summary: 'Gives one of your wallets a name',
    description: 'Only you and staff see it. `null` takes it away.',
    ...signedIn({ guardsMoney: true }),
    request: {
      params: walletParams,
      headers: optionalKeyHeader,
      body: jsonBody(
        z.strictObject({
          label: z.string().trim().min(1).max(LABEL_MAX).nullable().openapi({ example: 'Rent' }),
        }),
      ),
    },
    responses: {
      200: jsonAnswer('The wallet, renamed', walletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...SIGNED_IN_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const closeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/wallets/{id}',
    tags: ['Wallets'],
    summary: 'Closes one of your wallets for good',
    description:
      'It must be empty, with nothing held, and not frozen. Its history stays readable; another wallet in the same ' +
      'currency may be opened afterwards, with a code of its own.',
    ...signedIn({ guardsMoney: true }),
    request: { params: walletParams, headers: optionalKeyHeader },
    responses: {
      200: jsonAnswer('The wallet, closed', walletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_HAS_BALANCE',
        'WALLET_FROZEN',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        'VALIDATION_ERROR',
        'PAYLOAD_TOO_LARGE',
        ...SIGNED_IN_PROBLEMS,
      ),
    },
  })

const readSequence = (cursor: string | undefined): bigint => {
  if (cursor === undefined) return LAST_SEQUENCE
  if (!/^[1-9]\d{0,17}$/.test(cursor)) {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
  return BigInt(cursor)
}

const notFound = () => new ProblemError('WALLET_NOT_FOUND', 'id: you have no such wallet')

/** The user's own wallets. Another user's wallet is answered like one that does not exist. */
export const walletRoutes = (deps: WalletDeps): Routes => {
  const routes = newRoutes()
  const own = async (userId: string, id: string): Promise<WalletFacts> => {
    const wallet = await deps.readWalletOf(userId, id)
    if (!wallet) throw notFound()
    return wallet
  }
  const view = async (wallet: WalletFacts) => (await viewWallets(deps.personKeys, [wallet]))[0]!
  const inputOf = async (context: Context<GatewayEnv>, id: string) => {
    const { userId } = context.var.user
    return {
      wallet: await own(userId, id),
      userId,
      source: 'self' as const,
      idempotencyKey: readOptionalKey(context.req.header('idempotency-key')),
      traceparent: context.var.traceparent,
    }
  }

  routes.openapi(openRoute(deps.guards), async context => {
    const { userId } = context.var.user
    const { currency } = context.req.valid('json')
    const wallet = await deps.openWallet({ userId, currency, traceparent: context.var.traceparent })
    return context.json(await view(wallet), 201)
  })

  // All of them are read at once: there is one open wallet per currency, so they are few.
  routes.openapi(listRoute(deps.guards), async context => {
    const wallets = await deps.readWalletsOf(context.var.user.userId)
    const { limit, cursor } = context.req.valid('query')
    const from = cursor === undefined ? 0 : wallets.findIndex(({ id }) => id === cursor) + 1
    const { page, nextCursor } = cutPage(wallets.slice(from), limit)
    return context.json({ items: await viewWallets(deps.personKeys, page), nextCursor }, 200)
  })

  routes.openapi(getRoute(deps.guards), async context =>
    context.json(await view(await own(context.var.user.userId, context.req.valid('param').id)), 200),
  )

  routes.openapi(renameRoute(deps.guards), async context => {
    const { label } = context.req.valid('json')
    const input = await inputOf(context, context.req.valid('param').id)
    return context.json(await view(await deps.changeWallet.rename({ ...input, label })), 200)
  })

  routes.openapi(freezeRoute(deps.guards), async context => {
    const { reason = null } = context.req.valid('json')
    const input = await inputOf(context, context.req.valid('param').id)
    return context.json(await view(await deps.changeWallet.freeze({ ...input, reason })), 200)
  })

  routes.openapi(unfreezeRoute(deps.guards), async context => {
    const input = await inputOf(context, context.req.valid('param').id)
    return context.json(await view(await deps.changeWallet.unfreeze({ ...input, reason: null })), 200)
  })

  routes.openapi(closeRoute(deps.guards), async context => {
    const input = await inputOf(context, context.req.valid('param').id)
    return context.json(await view(await deps.changeWallet.close(input)), 200)
  })

  routes.openapi(entriesRoute(deps.guards), async context => {
    const { limit, cursor } = context.req.valid('query')
    const before = readSequence(cursor)
    const { id, currency } = await own(context.var.user.userId, context.req.valid('param').id)
    const entries = await deps.readEntries(id, before, limit + 1)
    const page = entries.slice(0, limit)
    const items = await viewEntries(deps.names, page, currency)
    return context.json(
      { items, nextCursor: entries.length > limit ? String(page.at(-1)!.sequence) : null },
      200,
    )
  })

  routes.openapi(entryStreamRoute(deps.guards), async context => {
    const { userId } = context.var.user
    const walletId = context.req.valid('param').id
    let currency = ''
    return deps.streams.open(context, deps.feed, {
      key: walletId,
      after: context.req.valid('header')['last-event-id'],
      readLast: async () => {
        const newest = await deps.readNewestEntry(userId, walletId)
        if (!newest) throw notFound()
        currency = newest.currency
        return newest.sequence
      },
      readAfter: async (after, limit) => {
        const entries = await deps.readEntriesAfter(walletId, after, limit)
        const views = await viewEntries(deps.names, entries, currency)
        return entries.map(({ sequence }, at) => ({ id: sequence, event: 'entry', data: views[at]! }))
      },
    })
  })

  return routes
}
