import { createRoute, z } from '@hono/zod-openapi'
import {
  cursorParam,
  type Guards,
  jsonAnswer,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  timestamp,
} from '../http/define-route.ts'
import { validationProblem } from '../problems/problem.ts'
import type { NotificationFacts } from './sql/notifications.ts'

export type NotificationDeps = {
  guards: Guards
  readNotifications: (
    userId: string,
    before: { createdAt: Date; id: string },
    unreadOnly: boolean,
    limit: number,
  ) => Promise<NotificationFacts[]>
  countUnread: (userId: string) => Promise<number>
}

const FIRST_PAGE = { createdAt: new Date('9999-12-31T00:00:00Z'), id: 'ffffffff-ffff-ffff-ffff-ffffffffffff' }

const notificationSchema = z
  .object({
    id: z.uuid(),
    type: z.string().openapi({ example: 'transfer_received' }),
    title: z.string().openapi({ example: 'Money received' }),
    body: z.string().openapi({ example: 'You received 12.50 USD from Bob B.' }),
    transferId: z.uuid().nullable(),
    readAt: timestamp.nullable(),
    createdAt: timestamp,
  })
  .openapi('Notification')

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/notifications',
    tags: ['Notifications'],
    summary: 'Lists your notifications, newest first',
    ...signedIn(),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        unreadOnly: z.enum(['true', 'false']).optional(),
      }),
    },
    responses: {
      200: jsonAnswer('Notifications', pageOf(notificationSchema)),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const unreadRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/notifications/unread-count',
    tags: ['Notifications'],
    summary: 'Counts your unread notifications',
    ...signedIn(),
    responses: {
      200: jsonAnswer('The count', z.object({ unreadCount: z.int().openapi({ example: 3 }) })),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const LAST_MS = FIRST_PAGE.createdAt.getTime()
const cursorSchema = z.tuple([z.int().min(0).max(LAST_MS), z.uuid()])

const readCursor = (text: string | undefined): { createdAt: Date; id: string } => {
  if (text === undefined) return FIRST_PAGE
  try {
    const [ms, id] = cursorSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')))
    return { createdAt: new Date(ms), id }
  } catch {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
}

/** What the notifier has to tell the user, read from what it publishes. */
export const notificationRoutes = ({ guards, readNotifications, countUnread }: NotificationDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(listRoute(guards), async context => {
    const { limit, cursor, unreadOnly } = context.req.valid('query')
    const before = readCursor(cursor)
    const rows = await readNotifications(context.var.user.userId, before, unreadOnly === 'true', limit + 1)
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    const items = page.map(({ readAt, createdAt, ...notification }) => ({
      ...notification,
      readAt: readAt?.toISOString() ?? null,
      createdAt: createdAt.toISOString(),
    }))
    const nextCursor =
      rows.length > limit && last
        ? Buffer.from(JSON.stringify([last.createdAt.getTime(), last.id])).toString('base64url')
        : null
    return context.json({ items, nextCursor }, 200)
  })

  routes.openapi(unreadRoute(guards), async context =>
    context.json({ unreadCount: await countUnread(context.var.user.userId) }, 200),
  )

  return routes
}
