import { createRoute, z } from '@hono/zod-openapi'
import { NOTICE_KINDS, type NoticeKind } from '@pennywire/messages/notices.ts'
import { LANGUAGES } from '@pennywire/messages/render-notice.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
} from '../http/define-route.ts'
import { validationProblem } from '../problems/problem.ts'
import type { Preferences } from './sql/notifications.ts'

export type PreferenceDeps = {
  guards: Guards
  read: (userId: string) => Promise<Preferences>
  change: (userId: string, change: (now: Preferences) => Preferences) => Promise<Preferences>
}

const languageSchema = z
  .enum(LANGUAGES)
  .nullable()
  .openapi({ description: 'Null: the language that each request asks for, and English in mails' })

const channelsSchema = z.object({ inApp: z.boolean() })
const preferencesSchema = z
  .object({
    language: languageSchema,
    kinds: z.object(
      Object.fromEntries(NOTICE_KINDS.map(kind => [kind, channelsSchema])) as {
        [Kind in NoticeKind]: typeof channelsSchema
      },
    ),
  })
  .openapi('NotificationPreferences', {
    example: {
      language: 'de',
      kinds: {
        money_received: { inApp: true },
        money_sent: { inApp: true },
        declined: { inApp: true },
        holds: { inApp: false },
        wallet: { inApp: true },
        security: { inApp: true },
      },
    },
  })

const channelsChange = z.strictObject({ inApp: z.boolean().optional() }).optional()
const preferencesChange = z.strictObject({
  language: languageSchema.optional(),
  kinds: z
    .strictObject(
      Object.fromEntries(NOTICE_KINDS.map(kind => [kind, channelsChange])) as {
        [Kind in NoticeKind]: typeof channelsChange
      },
    )
    .optional(),
})

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/notifications/preferences',
    tags: ['Notifications'],
    summary: 'How you are told, and in which language',
    ...signedIn(),
    responses: {
      200: jsonAnswer('Your preferences', preferencesSchema),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const changeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'patch',
    path: '/v1/notifications/preferences',
    tags: ['Notifications'],
    summary: 'Changes how you are told',
    description: 'Leaves what it does not name. Notifications of the kind `security` cannot be turned off.',
    ...signedIn(),
    request: { body: jsonBody(preferencesChange) },
    responses: {
      200: jsonAnswer('Your preferences', preferencesSchema),
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS),
    },
  })

const view = ({ language, turnedOff }: Preferences): z.output<typeof preferencesSchema> => ({
  language,
  kinds: Object.fromEntries(
    NOTICE_KINDS.map(kind => [kind, { inApp: !turnedOff.includes(`${kind}:in_app`) }]),
  ) as { [Kind in NoticeKind]: { inApp: boolean } },
})

/** How a user is told of what happens, as they choose it. */
export const preferenceRoutes = ({ guards, read, change }: PreferenceDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(readRoute(guards), async context =>
    context.json(view(await read(context.var.user.userId)), 200),
  )

  routes.openapi(changeRoute(guards), async context => {
    const wanted = context.req.valid('json')
    if (wanted.kinds?.security?.inApp === false) {
      throw validationProblem([{ field: 'kinds.security.inApp', rule: 'cannot be turned off' }])
    }
    const next = await change(context.var.user.userId, now => {
      const off = new Set(now.turnedOff)
      for (const kind of NOTICE_KINDS) {
        const inApp = wanted.kinds?.[kind]?.inApp
        if (inApp === true) off.delete(`${kind}:in_app`)
        if (inApp === false) off.add(`${kind}:in_app`)
      }
      return {
        ...now,
        language: wanted.language === undefined ? now.language : wanted.language,
        turnedOff: [...off].sort(),
      }
    })
    return context.json(view(next), 200)
  })

  return routes
}
