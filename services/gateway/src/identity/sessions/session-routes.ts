import { createRoute, z } from '@hono/zod-openapi'
import { sessionOf } from '../../http/context.ts'
import {
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  readIdCursor,
  SIGNED_IN_PROBLEMS,
  timestamp,
  uuidParam,
} from '../../http/define-route.ts'
import { ProblemError } from '../../problems/problem.ts'
import type { Sessions } from './sessions.ts'

const session = z
  .object({
    id: z.uuid(),
    current: z.boolean().openapi({ description: 'Whether this request belongs to it' }),
    device: z.string().nullable(),
    startedAt: timestamp,
    lastUsedAt: timestamp,
    expiresAt: timestamp,
  })
  .openapi('Session', {
    example: {
      id: '0197f3a2-5b1c-7e44-9a7e-3f0c2b6d1e90',
      current: true,
      device: 'Mozilla/5.0 (iPhone; …)',
      startedAt: '2026-01-31T09:30:00.000Z',
      lastUsedAt: '2026-01-31T17:05:12.000Z',
      expiresAt: '2026-02-07T17:05:12.000Z',
    },
  })

/** Maps sessions to the response body; `current` is the id of the caller's session. */
export const viewSessions = (found: Awaited<ReturnType<Sessions['list']>>, current: string | null) =>
  found.map(({ id, device, startedAt, lastUsedAt, expiresAt }) => ({
    id,
    current: id === current,
    device,
    startedAt: startedAt.toISOString(),
    lastUsedAt: lastUsedAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
  }))

/** A page of sessions. */
export const sessionPage = pageOf(session)

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/sessions',
    tags: ['Accounts'],
    summary: 'The open sessions, newest first',
    ...signedIn(),
    request: { query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of sessions', sessionPage),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const endRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/sessions/{id}',
    tags: ['Accounts'],
    summary: 'Ends one of the own sessions: its tokens stop working at once',
    ...signedIn(),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('The session has ended', z.object({ id: z.uuid(), endedAt: timestamp })),
      ...problemResponses('SESSION_NOT_FOUND', 'VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

/** The sessions of the signed-in user. */
export const sessionRoutes = ({ guards, sessions }: { guards: Guards; sessions: Sessions }): Routes => {
  const routes = newRoutes()

  routes.openapi(listRoute(guards), async context => {
    const { userId, sessionId } = sessionOf(context)
    const { limit, cursor } = context.req.valid('query')
    const found = await sessions.list({ userId, before: readIdCursor(cursor), limit: limit + 1 })
    const { page, nextCursor } = cutPage(found, limit)
    return context.json({ items: viewSessions(page, sessionId), nextCursor }, 200)
  })

  routes.openapi(endRoute(guards), async context => {
    const { userId } = context.var.user
    const { id } = context.req.valid('param')
    const [ended] = await sessions.end(
      { userId, sessionId: id, reason: 'ended_by_user' },
      context.var.traceparent,
    )
    // Another user's session gets the same answer as an unknown one.
    if (!ended) throw new ProblemError('SESSION_NOT_FOUND', 'id: there is no such open session of yours.')
    return context.json({ id: ended, endedAt: new Date().toISOString() }, 200)
  })

  return routes
}
