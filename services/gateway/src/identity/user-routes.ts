import { createRoute, z } from '@hono/zod-openapi'
import type { Database } from '@pennywire/runtime/database.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  readIdCursor,
  SIGNED_IN_PROBLEMS,
  timestamp,
} from '../http/define-route.ts'
import { ProblemError } from '../problems/problem.ts'
import { password } from './accounts/account-fields.ts'
import type { Accounts } from './accounts/accounts.ts'
import type { Names } from './persons/names.ts'
import { fullName } from './persons/person-name.ts'
import { findUser, type User } from './persons/sql/users.ts'
import type { Pins } from './pin/pin.ts'
import type { LoginHistory } from './sessions/login-history.ts'
import type { ManageUsers } from './staff/manage-users.ts'

export type UserDeps = {
  guards: Guards
  sql: Database
  accounts: Accounts
  manageUsers: ManageUsers
  logins: LoginHistory
  pins: Pins
  names: Names
}

const profile = z
  .object({
    id: z.uuid(),
    email: z.string().openapi({ example: 'alice@example.com' }),
    fullName: z.string().openapi({ example: 'Alice Smith' }),
    emailVerified: z.boolean(),
    pinSet: z.boolean(),
    hasPassword: z
      .boolean()
      .openapi({ description: 'False where the account came by a provider and none was set since' }),
    secondFactorEnabled: z.boolean(),
    roles: z.array(z.string()).openapi({ example: ['user'] }),
    createdAt: timestamp,
  })
  .openapi('Profile', {
    example: {
      id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
      email: 'alice@example.com',
      fullName: 'Alice Smith',
      emailVerified: true,
      pinSet: true,
      hasPassword: true,
      secondFactorEnabled: false,
      roles: ['user'],
      createdAt: '2026-01-31T09:30:00.000Z',
    },
  })

const login = z
  .object({
    id: z.uuid(),
    at: timestamp,
    method: z.string().openapi({ description: 'password, second_factor, external, oidc' }),
    outcome: z.enum(['signed_in', 'failed']),
    failure: z
      .string()
      .nullable()
      .openapi({ description: 'wrong_password, email_not_verified, account_disabled, …' }),
    sessionId: z.uuid().nullable(),
    address: z.string().nullable().openapi({ description: 'The network address it came from' }),
    device: z.string().nullable(),
  })
  .openapi('Login', {
    example: {
      id: '0197f3a2-5b1c-7e44-9a7e-3f0c2b6d1e90',
      at: '2026-01-31T09:30:00.000Z',
      method: 'password',
      outcome: 'failed',
      failure: 'wrong_password',
      sessionId: null,
      address: '192.0.2.1',
      device: 'Mozilla/5.0 (iPhone; …)',
    },
  })

const meRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/users/me',
    tags: ['Accounts'],
    summary: 'Who is signed in',
    ...signedIn(),
    responses: { 200: jsonAnswer('The user', profile), ...problemResponses(...SIGNED_IN_PROBLEMS) },
  })

const renameRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'patch',
    path: '/v1/users/me',
    tags: ['Accounts'],
    summary: 'Changes the name',
    ...signedIn(),
    request: { body: jsonBody(z.strictObject({ fullName })) },
    responses: {
      200: jsonAnswer('The user', profile),
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS),
    },
  })

const loginsRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/users/me/logins',
    tags: ['Accounts'],
    summary: 'The history of sign-ins, newest first',
    description: 'Those that failed as well. Kept for 180 days.',
    ...signedIn(),
    request: { query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of sign-ins', pageOf(login)),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const deactivateRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/users/me/deactivate',
    tags: ['Accounts'],
    summary: 'Deactivates the own account',
    description:
      'At once: all sessions end, this one too, and live tokens are answered `ACCOUNT_DISABLED`. Wallets stay as they ' +
      'are. Only staff can activate the account again.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ password })) },
    responses: {
      200: jsonAnswer('The account is deactivated', z.object({ disabled: z.literal(true), at: timestamp })),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        'INSUFFICIENT_PERMISSIONS',
      ),
    },
  })

/** The signed-in user. */
export const userRoutes = (deps: UserDeps): Routes => {
  const { guards, sql, accounts, manageUsers, logins, pins, names } = deps
  const routes = newRoutes()

  const profileOf = async (user: User | undefined) => {
    if (!user) throw new ProblemError('TOKEN_INVALID', 'The user of this token does not exist.')
    const { id, email, fullName, emailVerified, passwordHash, secondFactorEnabled, roles, createdAt } = user
    const pinSet = await pins.hasPin(id)
    const hasPassword = passwordHash !== null
    const known = { id, email, fullName, emailVerified, pinSet, hasPassword, secondFactorEnabled, roles }
    return { ...known, createdAt: createdAt.toISOString() }
  }

  routes.openapi(meRoute(guards), async context =>
    context.json(await profileOf(await findUser(sql, context.var.user.userId)), 200),
  )

  routes.openapi(renameRoute(guards), async context => {
    const { userId } = context.var.user
    const user = await accounts.rename(userId, context.req.valid('json').fullName, context.var.traceparent)
    names.forget(userId)
    return context.json(await profileOf(user), 200)
  })

  routes.openapi(loginsRoute(guards), async context => {
    const { userId } = context.var.user
    const { limit, cursor } = context.req.valid('query')
    const found = await logins.list({ userId, before: readIdCursor(cursor), limit: limit + 1 })
    const { page, nextCursor } = cutPage(found, limit)
    const items = page.map(({ id, occurredAt, method, failure, ...rest }) => ({
      id,
      at: occurredAt.toISOString(),
      method,
      outcome: failure === null ? ('signed_in' as const) : ('failed' as const),
      failure,
      sessionId: rest.sessionId,
      address: rest.address,
      device: rest.device,
    }))
    return context.json({ items, nextCursor }, 200)
  })

  routes.openapi(deactivateRoute(guards), async context => {
    const { userId } = context.var.user
    await manageUsers.deactivateOwn(userId, context.req.valid('json').password, context.var.traceparent)
    return context.json({ disabled: true as const, at: new Date().toISOString() }, 200)
  })

  return routes
}
