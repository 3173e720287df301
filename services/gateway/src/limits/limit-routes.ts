import { createRoute, z } from '@hono/zod-openapi'
import { decimalsOf, parseAmount } from '@pennywire/contracts/money.ts'
import {
  LIMIT_KINDS,
  LIMITED_ACTIONS,
  type LimitedAction,
  type LimitKind,
  type Limits,
} from '@pennywire/rules/limits.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Context } from 'hono'
import { refuseOwn } from '../access/roles.ts'
import type { GatewayEnv } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  type Guards,
  jsonAnswer,
  jsonBody,
  KEY_PROBLEMS,
  limitParam,
  moneyString,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import type { Ask } from '../ledger/ask-ledger.ts'
import { readOptionalKey } from '../money/money-headers.ts'
import { type BrokenRule, ProblemError, validationProblem } from '../problems/problem.ts'
import { createChangeLimits } from './change-limits.ts'
import { viewAllLimits, viewLimits, viewSetLimits, viewStaffLimits } from './limit-view.ts'
import type { LimitedWallet, LimitsPlace, SetLimits, SetLimitsFilter } from './sql/limit-reads.ts'

export type LimitDeps = {
  guards: Guards
  ask: Ask
  readLimitedWallets: (wanted: { userId: string | null; walletId: string | null }) => Promise<LimitedWallet[]>
  readSetLimits: (filter: SetLimitsFilter, after: LimitsPlace | null, limit: number) => Promise<SetLimits[]>
  clock: Clock
}

const amountOrNone = z.string().nullable()
const limitShape = {
  limit: amountOrNone.openapi({ example: '2000.00', description: 'What holds; null: nothing limits' }),
  own: amountOrNone.openapi({ example: null, description: 'What you set yourself' }),
  maximum: amountOrNone.openapi({ example: '2000.00', description: 'The most that you may set' }),
}
const periodShape = (period: string, limit: string, used: string, left: string) =>
  z.object({
    limit: limitShape.limit.openapi({ example: limit }),
    own: limitShape.own,
    maximum: limitShape.maximum.openapi({ example: limit }),
    used: z.string().openapi({ example: used, description: `Used in this UTC ${period}` }),
    left: amountOrNone.openapi({ example: left }),
  })

const actionSchema = z.enum(LIMITED_ACTIONS)
const limitsShape = {
  walletId: z.uuid(),
  currency: z.string().openapi({ example: 'USD' }),
  action: actionSchema,
  perTransaction: z.object(limitShape),
  daily: periodShape('day', '5000.00', '120.00', '4880.00'),
  monthly: periodShape('month', '20000.00', '620.00', '19380.00'),
}
const limitsSchema = z.object(limitsShape).openapi('Limits')

const threeShape = (example: [string | null, string | null, string | null]) =>
  z.object({
    perTransaction: amountOrNone.openapi({ example: example[0] }),
    daily: amountOrNone.openapi({ example: example[1] }),
    monthly: amountOrNone.openapi({ example: example[2] }),
  })
const staffLimitsSchema = z
  .object({
    ...limitsShape,
    tier: z.string().openapi({ example: 'unverified' }),
    cap: threeShape([null, null, null]).openapi({ description: 'What staff set, in place of the defaults' }),
    default: threeShape(['2000.00', '5000.00', '20000.00']),
  })
  .openapi('StaffLimits')

/** Zero is a limit, too: it blocks every amount. */
const wanted = moneyString.nullable().optional()
const wantedShape = {
  perTransaction: wanted.openapi({ example: '500.00', description: 'null or missing: none of this source' }),
  daily: wanted.openapi({ example: '1000.00' }),
  monthly: wanted.openapi({ example: '5000.00' }),
}
const keyHeader = z.object({
  'idempotency-key': z
    .string()
    .optional()
    .openapi({ description: 'Optional: a repeat with the same key and content is applied once' }),
})
const actionParam = actionSchema.openapi({
  description: '`send` is transfers and holds, `deposit` money brought in, `withdrawal` money taken out',
  example: 'send',
})

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/limits',
    tags: ['Limits'],
    summary: 'Shows your limits, what is used of them and what is left',
    description:
      'For each of your open wallets, or the one asked for, and each action. A day is a UTC day, a month a UTC month.',
    ...signedIn({ scope: 'wallets:read' }),
    request: {
      query: z.strictObject({ walletId: uuidParam.optional(), limit: limitParam, cursor: cursorParam }),
    },
    responses: {
      200: jsonAnswer('Limits', pageOf(limitsSchema)),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const CHANGE_PROBLEMS = [
  ...BODY_PROBLEMS,
  ...SIGNED_IN_PROBLEMS,
  'WALLET_NOT_FOUND',
  'WALLET_ALREADY_CLOSED',
  'LIMIT_ABOVE_MAXIMUM',
  'IDEMPOTENCY_KEY_REUSED',
] as const

const setRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'put',
    path: '/v1/limits/{action}',
    tags: ['Limits'],
    summary: 'Sets limits of your own for one action of a wallet',
    description:
      'They may only tighten what holds without them. The three together replace what you had set; null or a missing ' +
      'one sets none.',
    ...signedIn({ guardsMoney: true }),
    request: {
      headers: keyHeader,
      params: z.object({ action: actionParam }),
      body: jsonBody(z.strictObject({ walletId: uuidParam, ...wantedShape })),
    },
    responses: {
      200: jsonAnswer('What holds from now on', limitsSchema),
      ...problemResponses(...CHANGE_PROBLEMS),
    },
  })

const patchRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'patch',
    path: '/v1/limits/{action}',
    tags: ['Limits'],
    summary: 'Changes some limits of your own for one action of a wallet',
    description:
      'What the body names is set, or with null removed; what it does not name stays as it is, also beside a change of ' +
      'the same limits at the same time. They may only tighten what holds without them.',
    ...signedIn({ guardsMoney: true }),
    request: {
      headers: keyHeader,
      params: z.object({ action: actionParam }),
      body: jsonBody(
        z
          .strictObject({
            walletId: uuidParam,
            perTransaction: wanted.openapi({ description: 'null: none; missing: as it is' }),
            daily: wanted.openapi({ example: '1000.00' }),
            monthly: wanted,
          })
          .refine(body => LIMIT_KINDS.some(kind => body[kind] !== undefined), {
            error: 'must name perTransaction, daily or monthly',
          }),
      ),
    },
    responses: {
      200: jsonAnswer('What holds from now on', limitsSchema),
      ...problemResponses(...CHANGE_PROBLEMS),
    },
  })

const removeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/limits/{action}',
    tags: ['Limits'],
    summary: 'Removes your own limits for one action of a wallet',
    ...signedIn({ guardsMoney: true }),
    request: {
      headers: keyHeader,
      params: z.object({ action: actionParam }),
      query: z.strictObject({ walletId: uuidParam }),
    },
    responses: {
      200: jsonAnswer('What holds from now on', limitsSchema),
      ...problemResponses(
        'VALIDATION_ERROR',
        'PAYLOAD_TOO_LARGE',
        'WALLET_NOT_FOUND',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
        ...SIGNED_IN_PROBLEMS,
      ),
    },
  })

const setLimitsSchema = z
  .object({
    walletId: z.uuid(),
    userId: z.uuid().openapi({ description: 'The owner' }),
    currency: limitsShape.currency,
    action: actionSchema,
    source: z.enum(['self', 'staff']).openapi({ description: 'Who set them' }),
    perTransaction: amountOrNone.openapi({ example: '500.00' }),
    daily: amountOrNone.openapi({ example: null }),
    monthly: amountOrNone.openapi({ example: null }),
  })
  .openapi('SetLimits')

const staffAllRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/limits',
    tags: ['Staff'],
    summary: 'Lists the limits that owners and staff have set (admin)',
    description: 'In the order of wallet, action and source. Wallets without an entry have the defaults.',
    ...signedIn({ role: 'admin' }),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        userId: uuidParam.optional(),
        walletId: uuidParam.optional(),
        action: actionSchema.optional(),
        source: z.enum(['self', 'staff']).optional(),
      }),
    },
    responses: {
      200: jsonAnswer('Limits', pageOf(setLimitsSchema)),
      ...problemResponses('VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const staffListRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/wallets/{id}/limits',
    tags: ['Staff'],
    summary: "Shows a wallet's limits and who set them (moderator)",
    ...signedIn({ role: 'moderator' }),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('Limits', z.object({ items: z.array(staffLimitsSchema), nextCursor: z.null() })),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const staffSetRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'put',
    path: '/v1/admin/wallets/{id}/limits/{action}',
    tags: ['Staff'],
    summary: "Sets staff's limits for one action of a wallet (admin)",
    description:
      'They stand in place of the defaults, also above them, and the owner cannot touch them. The three together ' +
      'replace what staff had set; null or a missing one sets none. Nobody sets limits for a wallet of their own.',
    ...signedIn({ role: 'admin', guardsMoney: true, stepUp: true }),
    request: {
      headers: keyHeader.extend(stepUpHeader.shape),
      params: z.object({ id: uuidParam, action: actionParam }),
      body: jsonBody(z.strictObject(wantedShape)),
    },
    responses: {
      200: jsonAnswer('What holds from now on', staffLimitsSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        'WALLET_NOT_FOUND',
        'WALLET_ALREADY_CLOSED',
        'IDEMPOTENCY_KEY_REUSED',
      ),
    },
  })

type LimitsBody = { [Kind in keyof Limits]?: string | null | undefined }

/** Limits in minor units, or 422 naming every field that breaks a rule. */
const readWanted = (body: LimitsBody, currency: string): Limits => {
  const broken: BrokenRule[] = []
  const read = (field: keyof Limits): bigint | null => {
    const text = body[field] ?? null
    if (text === null) return null
    const zero = /^0(?:\.(0+))?$/.exec(text)
    if (zero && (zero[1]?.length ?? 0) <= decimalsOf(currency)) return 0n
    const parsed = parseAmount(text, currency)
    if ('minor' in parsed) return parsed.minor
    broken.push({ field, rule: parsed.error })
    return null
  }
  const limits = { perTransaction: read('perTransaction'), daily: read('daily'), monthly: read('monthly') }
  if (broken.length > 0) throw validationProblem(broken)
  return limits
}

const askerOf = ({ req, var: { user, traceparent } }: Context<GatewayEnv>) => ({
  userId: user.userId,
  idempotencyKey: readOptionalKey(req.header('idempotency-key')),
  traceparent,
})

const writePlace = ({ walletId, action, source }: LimitsPlace) => `${walletId}_${action}_${source}`
const readPlace = (cursor: string | undefined): LimitsPlace | null => {
  if (cursor === undefined) return null
  const [, walletId, action, source] = /^([0-9a-f-]{36})_([a-z]+)_([a-z]+)$/.exec(cursor) ?? []
  if (!z.uuid().safeParse(walletId).success)
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  return { walletId: walletId!, action: action!, source: source! }
}

const notFound = (field: string) => new ProblemError('WALLET_NOT_FOUND', `${field}: there is no such wallet`)

/** Limits per transaction, day and month: shown to the owner, tightened by the owner, set by staff. */
export const limitRoutes = (deps: LimitDeps): Routes => {
  const routes = newRoutes()
  const { guards } = deps

  const find = async (field: string, walletId: string, userId: string | null): Promise<LimitedWallet> => {
    const [wallet] = await deps.readLimitedWallets({ userId, walletId })
    if (!wallet) throw notFound(field)
    return wallet
  }

  const change = createChangeLimits(deps)

  routes.openapi(listRoute(guards), async context => {
    const { userId } = context.var.user
    const { walletId, limit, cursor } = context.req.valid('query')
    const wallets = await deps.readLimitedWallets({ userId, walletId: walletId ?? null })
    if (walletId !== undefined && wallets.length === 0) throw notFound('walletId')
    const items = viewAllLimits(wallets)
    const cursorOf = (item: (typeof items)[number]) => `${item.walletId}_${item.action}`
    const from = cursor === undefined ? 0 : items.findIndex(item => cursorOf(item) === cursor) + 1
    if (cursor !== undefined && from === 0) {
      throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
    }
    const page = items.slice(from, from + limit)
    const more = items.length > from + limit
    return context.json({ items: page, nextCursor: more ? cursorOf(page.at(-1)!) : null }, 200)
  })

  const changeOwn = async (
    asker: ReturnType<typeof askerOf>,
    walletId: string,
    action: LimitedAction,
    body: LimitsBody,
    keeps: LimitKind[] = [],
  ) => {
    const { id, currency } = await find('walletId', walletId, asker.userId)
    const limits = readWanted(body, currency)
    await change({ ...asker, source: 'self', walletId: id, action, limits, keeps })
    return viewLimits(await find('walletId', id, asker.userId), action)
  }

  routes.openapi(setRoute(guards), async context => {
    const { walletId, ...body } = context.req.valid('json')
    const { action } = context.req.valid('param')
    return context.json(await changeOwn(askerOf(context), walletId, action, body), 200)
  })

  routes.openapi(patchRoute(guards), async context => {
    const { walletId, ...body } = context.req.valid('json')
    const keeps = LIMIT_KINDS.filter(kind => body[kind] === undefined)
    const { action } = context.req.valid('param')
    return context.json(await changeOwn(askerOf(context), walletId, action, body, keeps), 200)
  })

  routes.openapi(removeRoute(guards), async context => {
    const { walletId } = context.req.valid('query')
    const { action } = context.req.valid('param')
    return context.json(await changeOwn(askerOf(context), walletId, action, {}), 200)
  })

  routes.openapi(staffAllRoute(guards), async context => {
    const { limit, cursor, ...filter } = context.req.valid('query')
    const { userId = null, walletId = null, action = null, source = null } = filter
    const wanted = { userId, walletId, action, source }
    const found = await deps.readSetLimits(wanted, readPlace(cursor), limit + 1)
    const page = found.slice(0, limit)
    context.set('viewed', [...new Set(page.map(({ walletId }) => walletId))])
    const nextCursor = found.length > limit ? writePlace(page.at(-1)!) : null
    return context.json({ items: page.map(viewSetLimits), nextCursor }, 200)
  })

  routes.openapi(staffListRoute(guards), async context => {
    const wallet = await find('id', context.req.valid('param').id, null)
    return context.json(
      { items: LIMITED_ACTIONS.map(action => viewStaffLimits(wallet, action)), nextCursor: null },
      200,
    )
  })

  routes.openapi(staffSetRoute(guards), async context => {
    const asker = askerOf(context)
    const { id, action } = context.req.valid('param')
    const wallet = await find('id', id, null)
    refuseOwn(asker.userId, [wallet.userId], 'a wallet')
    const limits = readWanted(context.req.valid('json'), wallet.currency)
    await change({ ...asker, source: 'staff', walletId: wallet.id, action, limits })
    return context.json(viewStaffLimits(await find('id', wallet.id, null), action), 200)
  })

  return routes
}
