import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { refuseOwn } from '../access/roles.ts'
import type { GatewayEnv } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  optionalJsonBody,
  pageOf,
  problemResponses,
  type Routes,
  readIdCursor,
  reasonField,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { readOptionalKey } from '../money/money-headers.ts'
import { ProblemError } from '../problems/problem.ts'
import type { ChangeWallet } from './change-wallet.ts'
import { optionalKeyHeader } from './wallet-routes.ts'
import { viewWallets, WALLET_EXAMPLE, walletSchema } from './wallet-view.ts'

export type AdminWalletDeps = {
  guards: Guards
  names: Names
  personKeys: PersonKeys
  changeWallet: ChangeWallet
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  readWalletsAbove: (
    filter: { userId: string | null; status: string | null },
    aboveId: string | null,
    limit: number,
  ) => Promise<WalletFacts[]>
}

const staffWalletSchema = walletSchema
  .extend({ owner: z.object({ userId: z.uuid(), name: z.string().openapi({ example: 'Alice Smith' }) }) })
  .openapi('StaffWallet', {
    example: {
      ...WALLET_EXAMPLE,
      owner: { userId: '8f14e45f-ceea-467f-a1d2-6b1c7a3e9d04', name: 'Alice Smith' },
    },
  })

const walletParams = z.object({ id: uuidParam })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/wallets',
    tags: ['Staff'],
    summary: "Lists users' wallets",
    description: 'In the order of their ids. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        status: z.enum(['active', 'frozen', 'closed']).optional(),
        userId: uuidParam.optional(),
      }),
    },
    responses: {
      200: jsonAnswer('Wallets', pageOf(staffWalletSchema)),
      ...problemResponses('VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/wallets/{id}',
    tags: ['Staff'],
    summary: "Shows any user's wallet",
    description: 'Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: { params: walletParams },
    responses: {
      200: jsonAnswer('The wallet', staffWalletSchema),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const freezeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/wallets/{id}/freeze',
    tags: ['Staff'],
    summary: "Freezes any user's wallet",
    description:
      'Neither sends nor receives from then on. It stands over a freeze of the owner and of wrong PINs, and only ' +
      'staff lift it. The owner reads the reason. Needs moderator, and never a wallet of your own.',
    ...signedIn({ guardsMoney: true, role: 'moderator' }),
    request: {
      params: walletParams,
      headers: optionalKeyHeader,
      body: jsonBody(
        z.strictObject({ reason: reasonField.openapi({ example: 'Reported as stolen, case 4711' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The wallet, frozen', staffWalletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_ALREADY_FROZEN',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...STAFF_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const unfreezeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/wallets/{id}/unfreeze',
    tags: ['Staff'],
    summary: 'Lifts any freeze',
    description: 'No matter who set it. Needs moderator, and never a wallet of your own.',
    ...signedIn({ guardsMoney: true, role: 'moderator', stepUp: true }),
    request: {
      params: walletParams,
      headers: optionalKeyHeader.extend(stepUpHeader.shape),
      body: optionalJsonBody(
        z.strictObject({ reason: reasonField.nullish().openapi({ example: 'Case 4711 is settled' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The wallet, active', staffWalletSchema),
      ...problemResponses(
        'WALLET_NOT_FOUND',
        'WALLET_NOT_FROZEN',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

/** Routes for the wallets of all users, for staff. */
export const adminWalletRoutes = (deps: AdminWalletDeps): Routes => {
  const routes = newRoutes()

  const viewForStaff = async (wallets: WalletFacts[]): Promise<z.infer<typeof staffWalletSchema>[]> => {
    const [views, names] = await Promise.all([
      viewWallets(deps.personKeys, wallets),
      deps.names.namesOf(wallets.map(({ userId }) => userId!)),
    ])
    return views.map((view, index) => {
      const userId = wallets[index]!.userId!
      return { ...view, owner: { userId, name: names.get(userId)?.fullName ?? '' } }
    })
  }
  /** System wallets have no user, and are not found here. */
  const find = async (id: string): Promise<WalletFacts> => {
    const [wallet] = await deps.readWallets([id])
    if (!wallet || wallet.userId === null) {
      throw new ProblemError('WALLET_NOT_FOUND', 'id: there is no such wallet')
    }
    return wallet
  }
  const inputOf = async (context: Context<GatewayEnv>, id: string) => {
    const { userId } = context.var.user
    const wallet = await find(id)
    refuseOwn(userId, [wallet.userId], 'a wallet')
    return {
      wallet,
      userId,
      source: 'staff' as const,
      idempotencyKey: readOptionalKey(context.req.header('idempotency-key')),
      traceparent: context.var.traceparent,
    }
  }

  routes.openapi(listRoute(deps.guards), async context => {
    const { limit, cursor, status = null, userId = null } = context.req.valid('query')
    const above = readIdCursor(cursor) ?? null
    const wallets = await deps.readWalletsAbove({ userId, status }, above, limit + 1)
    const { page, nextCursor } = cutPage(wallets, limit)
    context.set(
      'viewed',
      page.map(({ id }) => id),
    )
    return context.json({ items: await viewForStaff(page), nextCursor }, 200)
  })

  routes.openapi(getRoute(deps.guards), async context => {
    const [view] = await viewForStaff([await find(context.req.valid('param').id)])
    return context.json(view!, 200)
  })

  routes.openapi(freezeRoute(deps.guards), async context => {
    const { reason } = context.req.valid('json')
    const input = await inputOf(context, context.req.valid('param').id)
    const [view] = await viewForStaff([await deps.changeWallet.freeze({ ...input, reason })])
    return context.json(view!, 200)
  })

  routes.openapi(unfreezeRoute(deps.guards), async context => {
    const { reason = null } = context.req.valid('json')
    const input = await inputOf(context, context.req.valid('param').id)
    const [view] = await viewForStaff([await deps.changeWallet.unfreeze({ ...input, reason })])
    return context.json(view!, 200)
  })

  return routes
}
