import { kindOfNotice, type NoticeKind } from '@pennywire/messages/notices.ts'
import { type Language, renderNotice } from '@pennywire/messages/render-notice.ts'
import type { Names } from '../identity/persons/names.ts'
import type { NoticeFacts } from './sql/notifications.ts'

/** A notice as the API shows it to its user. */
export type NoticeView = {
  id: string
  type: string
  kind: NoticeKind
  title: string
  body: string
  counterparty: { name: string } | null
  transferId: string | null
  readAt: string | null
  createdAt: string
}

/** Puts words to notices. Names are looked up now: one that has changed is the new one, and one that is erased is gone. */
export const viewNotices = async (
  names: Pick<Names, 'namesOf'>,
  language: Language,
  notices: NoticeFacts[],
): Promise<NoticeView[]> => {
  const known = await names.namesOf(notices.flatMap(({ aboutUserId }) => aboutUserId ?? []))
  return notices.map(({ id, type, data, title, body, aboutUserId, transferId, readAt, createdAt }) => {
    const name = aboutUserId === null ? undefined : known.get(aboutUserId)?.masked
    const words = data === null ? null : renderNotice(language, { type, data, transferId }, name ?? null)
    return {
      id,
      type,
      kind: kindOfNotice(type),
      title: words?.title ?? title!,
      body: words?.body ?? body!,
      counterparty: name === undefined ? null : { name },
      transferId,
      readAt: readAt?.toISOString() ?? null,
      createdAt: createdAt.toISOString(),
    }
  })
}
