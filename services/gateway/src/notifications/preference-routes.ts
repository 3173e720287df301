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
  timestamp,
} from '../http/define-route.ts'
import { MAIL_BLOCK_REASONS, type MailBlock } from '../identity/persons/sql/mail-blocks.ts'
import { validationProblem } from '../problems/problem.ts'
import type { Preferences } from './sql/notifications.ts'

export type PreferenceDeps = {
  guards: Guards
  read: (userId: string) => Promise<Preferences>
  readMailedKinds: () => Promise<string[]>
  readMailBlock: (userId: string) => Promise<MailBlock | null>
  change: (userId: string, change: (now: Preferences) => Preferences) => Promise<Preferences>
}

const languageSchema = z
  .enum(LANGUAGES)
  .nullable()
  .openapi({ description: 'Null: the language that each request asks for, and English in mails' })

const channelsSchema = z.object({ inApp: z.boolean(), email: z.boolean() })
const preferencesSchema = z
  .object({
    language: languageSchema,
    mailBlocked: z
      .object({ at: timestamp, reason: z.enum(MAIL_BLOCK_REASONS) })
      .nullable()
      .openapi({ description: 'No mail goes to the address any more: it bounced, or its owner complained' }),
    attachReceipts: z
      .boolean()
      .openapi({ description: 'Whether mails about moved money have its receipt as PDF with them' }),
    kinds: z.object(
      Object.fromEntries(NOTICE_KINDS.map(kind => [kind, channelsSchema])) as {
        [Kind in NoticeKind]: typeof channelsSchema
      },
    ),
  })
  .openapi('NotificationPreferences', {
    example: {
      language: 'de',
      mailBlocked: null,
      attachReceipts: false,
      kinds: {
        money_received: { inApp: true, email: true },
        money_sent: { inApp: true, email: false },
        declined: { inApp: true, email: true },
        holds: { inApp: false, email: false },
        wallet: { inApp: true, email: true },
        security: { inApp: true, email: true },
      },
    },
  })

const channelsChange = z
  .strictObject({ inApp: z.boolean().nullish(), email: z.boolean().nullish() })
  .nullish()
const preferencesChange = z.strictObject({
  language: languageSchema.optional(),
  attachReceipts: z.boolean().nullish(),
  kinds: z
    .strictObject(
      Object.fromEntries(NOTICE_KINDS.map(kind => [kind, channelsChange])) as {
        [Kind in NoticeKind]: typeof channelsChange
      },
    )
    .nullish(),
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

/** As the choices name them; `channel` is a member of the API. */
const CHANNELS = { inApp: 'in_app', email: 'email' } as const
type Channels = { [Channel in keyof typeof CHANNELS]: boolean }

/** Whether a user is told of a kind by a channel: what they chose, else by the app always and by mail as the operator says. */
const isOn = (
  { turnedOn, turnedOff }: Preferences,
  mailedKinds: string[],
  kind: NoticeKind,
  channel: keyof Channels,
): boolean => {
  const choice = `${kind}:${CHANNELS[channel]}`
  if (kind === 'security' || turnedOn.includes(choice)) return true
  return !turnedOff.includes(choice) && (channel === 'inApp' || mailedKinds.includes(kind))
}

/** How a user is told of what happens, as they choose it. */
export const preferenceRoutes = (deps: PreferenceDeps): Routes => {
  const { guards, read, change } = deps
  const routes = newRoutes()

  const view = async (
    userId: string,
    preferences: Preferences,
  ): Promise<z.output<typeof preferencesSchema>> => {
    const [mailedKinds, block] = await Promise.all([deps.readMailedKinds(), deps.readMailBlock(userId)])
    const kinds = NOTICE_KINDS.map((kind): [NoticeKind, Channels] => [
      kind,
      {
        inApp: isOn(preferences, mailedKinds, kind, 'inApp'),
        email: isOn(preferences, mailedKinds, kind, 'email'),
      },
    ])
    return {
      language: preferences.language,
      mailBlocked: block && { at: block.at.toISOString(), reason: block.reason },
      attachReceipts: preferences.attachReceipts,
      kinds: Object.fromEntries(kinds) as Record<NoticeKind, Channels>,
    }
  }

  routes.openapi(readRoute(guards), async context => {
    const { userId } = context.var.user
    return context.json(await view(userId, await read(userId)), 200)
  })

  routes.openapi(changeRoute(guards), async context => {
    const { userId } = context.var.user
    const { language, attachReceipts, kinds } = context.req.valid('json')
    const locked = (['inApp', 'email'] as const).filter(channel => kinds?.security?.[channel] === false)
    if (locked.length > 0) {
      throw validationProblem(
        locked.map(channel => ({ field: `kinds.security.${channel}`, rule: 'cannot be turned off' })),
      )
    }
    const next = await change(userId, now => {
      const [on, off] = [new Set(now.turnedOn), new Set(now.turnedOff)]
      for (const kind of NOTICE_KINDS) {
        for (const channel of ['inApp', 'email'] as const) {
          const wanted = kinds?.[kind]?.[channel]
          if (wanted === undefined || wanted === null) continue
          const choice = `${kind}:${CHANNELS[channel]}`
          const [chosen, other] = wanted ? [on, off] : [off, on]
          chosen.add(choice)
          other.delete(choice)
        }
      }
      return {
        language: language === undefined ? now.language : language,
        turnedOn: [...on].sort(),
        turnedOff: [...off].sort(),
        attachReceipts: attachReceipts ?? now.attachReceipts,
      }
    })
    return context.json(await view(userId, next), 200)
  })

  return routes
}
