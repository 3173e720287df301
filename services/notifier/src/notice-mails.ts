import { deliveryIdOf } from '@pennywire/contracts/ids.ts'
import { kindOfNotice, type NoticeKind } from '@pennywire/messages/notices.ts'
import type { Notice } from './notices-for.ts'

/** What a delivery of a notice holds of it. */
export type DeliveredNotice = Pick<Notice, 'type' | 'data' | 'aboutUserId' | 'transferId' | 'createdAt'>

/** A notice that is to be mailed, if its user wants that. */
export type NoticeMail = {
  id: string
  userId: string
  kind: NoticeKind
  notice: DeliveredNotice
  /** Milliseconds since 1970. */
  expiresAt: number
}

/** So long a receipt is worth having: a mail server that is away longer has a person at work on it. */
const WORTH_MS = 7 * 24 * 60 * 60 * 1_000

/** Of what changes an account the gateway asks for a mail of its own (MailRequested), but of these. */
const MAILED_SECURITY: readonly string[] = [
  'signed_in',
  'webhook_added',
  'webhook_changed',
  'webhook_disabled',
  'webhook_disabled_by_staff',
  'webhook_removed',
  'webhooks_paused',
]

/** The mails of notices. What their users chose is looked up when they are stored. */
export const mailsOfNotices = (notices: Notice[]): NoticeMail[] =>
  notices.flatMap(({ id, userId, type, data, aboutUserId, transferId, createdAt }) => {
    const kind = kindOfNotice(type)
    if (kind === 'security' && !MAILED_SECURITY.includes(type)) return []
    return [
      {
        id: deliveryIdOf(id, 'mail'),
        userId,
        kind,
        notice: { type, data, aboutUserId, transferId, createdAt },
        expiresAt: createdAt + WORTH_MS,
      },
    ]
  })
