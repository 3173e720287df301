import { createRoute, z } from '@hono/zod-openapi'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Names } from '../identity/names.ts'
import type { Pins } from '../identity/pin.ts'
import type { Sessions } from '../identity/sessions.ts'
import { ProblemError, validationProblem } from '../problems.ts'
import { findUser, renameUser, type User } from '../sql/users.ts'
import { fullName } from './auth.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  timestamp,
  uuidParam,
} from './define-route.ts'

export type UserParts = { guards: Guards; sql: Database; sessions: Sessions; pins: Pins; names: Names }

const profile = z
  .object({
    id: z.uuid(),
    email: z.string().openapi({ example: 'alice@example.com' }),
    fullName: z.string().openapi({ example: 'Alice Smith' }),
    emailVerified: z.boolean(),
    pinSet: z.boolean(),
    roles: z.array(z.string()).openapi({ example: ['user'] }),
    createdAt: timestamp,
  })
  .openapi('Profile')

const session = z
  .object({
    id: z.uuid(),
    current: z.boolean().openapi({ description: 'Whether this request belongs to it' }),
    device: z.string().nullable().openapi({ example: 'Mozilla/5.0 (iPhone; …)' }),
    startedAt: timestamp,
    lastUsedAt: timestamp,
    expiresAt: timestamp,
  })
  .openapi('Session')

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

const sessionsRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/sessions',
    tags: ['Accounts'],
    summary: 'The open sessions, newest first',
    ...signedIn(),
    request: { query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of sessions', pageOf(session)),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const endSessionRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/sessions/{id}',
    tags: ['Accounts'],
    summary: 'Ends one of the own sessions: its tokens stop working at once',
    ...signedIn(),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('The session has ended', z.object({ id: z.uuid(), endedAt: timestamp })),
      ...problemResponses(
        'SESSION_NOT_FOUND',
        'VALIDATION_ERROR',
        'PAYLOAD_TOO_LARGE',
        ...SIGNED_IN_PROBLEMS,
      ),
    },
  })

/** The signed-in user and their sessions. */
export const userRoutes = ({ guards, sql, sessions, pins, names }: UserParts): Routes => {
  const routes = newRoutes()

  const profileOf = async (user: User | undefined) => {
    if (!user) throw new ProblemError('TOKEN_INVALID', 'The user of this token does not exist.')
    const { id, email, fullName, emailVerified, roles, createdAt } = user
    const pinSet = await pins.hasPin(id)
    return { id, email, fullName, emailVerified, pinSet, roles, createdAt: createdAt.toISOString() }
  }

  routes.openapi(meRoute(guards), async context =>
    context.json(await profileOf(await findUser(sql, context.var.user.userId)), 200),
  )

  routes.openapi(renameRoute(guards), async context => {
    const { userId } = context.var.user
    const user = await renameUser(sql, userId, context.req.valid('json').fullName)
    names.forget(userId)
    return context.json(await profileOf(user), 200)
  })

  routes.openapi(sessionsRoute(guards), async context => {
    const { userId, sessionId } = context.var.user
    const { limit, cursor } = context.req.valid('query')
    if (cursor && !z.uuid().safeParse(cursor).success) {
      throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
    }
    const found = await sessions.list({ userId, before: cursor, limit: limit + 1 })
    const items = found.slice(0, limit).map(({ id, device, startedAt, lastUsedAt, expiresAt }) => ({
      id,
      current: id === sessionId,
      device,
      startedAt: startedAt.toISOString(),
      lastUsedAt: lastUsedAt.toISOString(),
      expiresAt: expiresAt.toISOString(),
    }))
    return context.json({ items, nextCursor: found.length > limit ? items.at(-1)!.id : null }, 200)
  })

  routes.openapi(endSessionRoute(guards), async context => {
    const { userId } = context.var.user
    const { id } = context.req.valid('param')
    const [ended] = await sessions.end(
      { userId, sessionId: id, reason: 'ended_by_user' },
      context.var.traceparent,
    )
    // Another user's session is answered as one that does not exist.
    if (!ended) throw new ProblemError('SESSION_NOT_FOUND', 'id: there is no such open session of yours.')
    return context.json({ id: ended, endedAt: new Date().toISOString() }, 200)
  })

  return routes
}
