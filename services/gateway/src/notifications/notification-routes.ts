import { createRoute, z } from '@hono/zod-openapi'
import { NOTICE_KINDS } from '@pennywire/messages/notices.ts'
import type { Language } from '@pennywire/messages/render-notice.ts'
import {
  cursorParam,
  cutNumberedPage,
  type Guards,
  jsonAnswer,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  readSeqCursor,
  SIGNED_IN_PROBLEMS,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import { ProblemError } from '../problems/problem.ts'
import { lastEventId, STREAM_DESCRIPTION, streamAnswer } from '../streams/event-stream.ts'
import type { Feed, LiveStreams } from '../streams/live-streams.ts'
import type { NoticeView } from './notice-view.ts'
import type { NoticeFacts } from './sql/notifications.ts'

export type NotificationDeps = {
  guards: Guards
  languageFor: (userId: string, acceptLanguage: string | undefined) => Promise<Language>
  view: (language: Language, notices: NoticeFacts[]) => Promise<NoticeView[]>
  read: (userId: string, before: bigint, unreadOnly: boolean, limit: number) => Promise<NoticeFacts[]>
  streams: Pick<LiveStreams, 'open'>
  feed: Feed
  readLast: (userId: string) => Promise<bigint>
  readAfter: (userId: string, after: bigint, limit: number) => Promise<NoticeFacts[]>
  countUnread: (userId: string) => Promise<number>
  markRead: (userId: string, id: string) => Promise<NoticeFacts | undefined>
  markAllRead: (userId: string) => Promise<number>
}

const notificationSchema = z
  .object({
    id: z.uuid(),
    type: z.string().openapi({ example: 'transfer_received', description: 'Further ones may come' }),
    kind: z.enum(NOTICE_KINDS).openapi({ description: 'What it is turned on and off by' }),
    title: z.string().openapi({ example: 'Money received' }),
    body: z.string().openapi({
      example: 'You received 12.50 USD from Bob B. Your balance is 87.50 USD (TXN-7K3QZ9M2XW4H).',
      description: "In the user's language, else in the one that Accept-Language asks for",
    }),
    counterparty: z
      .object({ name: z.string().openapi({ example: 'Bob B.' }) })
      .nullable()
      .openapi({ description: 'The other side, by its name as strangers see it now' }),
    transferId: z.uuid().nullable(),
    readAt: timestamp.nullable(),
    createdAt: timestamp,
  })
  .openapi('Notification')

const languageHeader = z.object({
  'accept-language': z
    .string()
    .max(1_000)
    .optional()
    .openapi({ example: 'de', description: 'Where the user has chosen no language: en or de' }),
})

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/notifications',
    tags: ['Notifications'],
    summary: 'Lists your notifications, newest first',
    ...signedIn(),
    request: {
      headers: languageHeader,
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

const streamRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/notifications/stream',
    tags: ['Notifications'],
    summary: 'Streams your notifications as they come',
    description: `${STREAM_DESCRIPTION} Each event \`notification\` has a Notification as its data.`,
    ...signedIn({ ownTurns: true }),
    request: { headers: languageHeader.extend({ 'last-event-id': lastEventId }) },
    responses: {
      200: streamAnswer(
        'Your notifications, oldest first',
        'retry: 2711\nid: 41\nevent: ready\ndata: {}\n\nid: 42\nevent: notification\ndata: {"id": …}\n\n',
      ),
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

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/notifications/{id}/read',
    tags: ['Notifications'],
    summary: 'Marks a notification as read',
    description: 'Once read it stays so: a repeat answers the same, with the time of the first.',
    ...signedIn(),
    request: { headers: languageHeader, params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('The notification', notificationSchema),
      ...problemResponses('VALIDATION_ERROR', 'NOTIFICATION_NOT_FOUND', ...SIGNED_IN_PROBLEMS),
    },
  })

const readAllRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/notifications/read-all',
    tags: ['Notifications'],
    summary: 'Marks all your notifications as read',
    ...signedIn(),
    responses: {
      200: jsonAnswer(
        'How many were not read before',
        z.object({ markedCount: z.int().openapi({ example: 3 }) }),
      ),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

/** What the notifier has to tell the user, read from what it publishes, and what of it they have read. */
export const notificationRoutes = (deps: NotificationDeps): Routes => {
  const { guards, languageFor, view, read } = deps
  const routes = newRoutes()

  routes.openapi(listRoute(guards), async context => {
    const { limit, cursor, unreadOnly } = context.req.valid('query')
    const { userId } = context.var.user
    const language = await languageFor(userId, context.req.valid('header')['accept-language'])
    const found = await read(userId, readSeqCursor(cursor), unreadOnly === 'true', limit + 1)
    const { page, nextCursor } = cutNumberedPage(found, limit)
    context.header('Content-Language', language)
    return context.json({ items: await view(language, page), nextCursor }, 200)
  })

  routes.openapi(streamRoute(guards), async context => {
    const { userId } = context.var.user
    const header = context.req.valid('header')
    let language: Language = 'en'
    return deps.streams.open(context, deps.feed, {
      key: userId,
      after: header['last-event-id'],
      readLast: async () => {
        language = await languageFor(userId, header['accept-language'])
        context.header('Content-Language', language)
        return deps.readLast(userId)
      },
      readAfter: async (after, limit) => {
        const notices = await deps.readAfter(userId, after, limit)
        const views = await view(language, notices)
        return notices.map(({ seq }, at) => ({ id: seq, event: 'notification', data: views[at]! }))
      },
    })
  })

  routes.openapi(unreadRoute(guards), async context =>
    context.json({ unreadCount: await deps.countUnread(context.var.user.userId) }, 200),
  )

  routes.openapi(readRoute(guards), async context => {
    const { userId } = context.var.user
    const language = await languageFor(userId, context.req.valid('header')['accept-language'])
    const notice = await deps.markRead(userId, context.req.valid('param').id)
    if (!notice) throw new ProblemError('NOTIFICATION_NOT_FOUND', 'id: you have no such notification.')
    context.header('Content-Language', language)
    return context.json((await view(language, [notice]))[0]!, 200)
  })

  routes.openapi(readAllRoute(guards), async context =>
    context.json({ markedCount: await deps.markAllRead(context.var.user.userId) }, 200),
  )

  return routes
}
