import type { Language } from '@pennywire/messages/render-notice.ts'
import { languageOf } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import { readMailBlock } from '../identity/persons/sql/mail-blocks.ts'
import type { InTurn } from '../queues/turns.ts'
import type { LiveStreams } from '../streams/live-streams.ts'
import { viewNotices } from './notice-view.ts'
import { notificationRoutes } from './notification-routes.ts'
import { preferenceRoutes } from './preference-routes.ts'
import {
  changePreferences,
  countUnread,
  findLongerInboxes,
  markAllRead,
  markRead,
  readLastSeq,
  readMailedKinds,
  readNotices,
  readNoticesAfter,
  readPreferences,
} from './sql/notifications.ts'

/** What the notifier has written for users: read, marked as read, and chosen through its views. */
export const createNotifications = (deps: {
  guards: Guards
  sql: Database
  names: Pick<Names, 'namesOf'>
  notifier: Database
  inReadTurn: InTurn
  streams: Pick<LiveStreams, 'open'>
}): Room => {
  const { guards, sql, names, notifier, inReadTurn, streams } = deps
  /** The language that the user chose, else the one that their client asks for. */
  const languageFor = async (userId: string, acceptLanguage: string | undefined): Promise<Language> =>
    (await readPreferences(notifier, userId)).language ?? languageOf(acceptLanguage)
  return {
    routes: [
      notificationRoutes({
        guards,
        languageFor,
        view: (language, notices) => viewNotices(names, language, notices),
        read: (userId, before, unreadOnly, limit) => readNotices(notifier, userId, before, unreadOnly, limit),
        streams,
        feed: {
          name: 'notifications',
          findLonger: lists => findLongerInboxes(notifier, lists),
          inTurn: inReadTurn,
        },
        readLast: userId => readLastSeq(notifier, userId),
        readAfter: (userId, after, limit) => readNoticesAfter(notifier, userId, after, limit),
        countUnread: userId => countUnread(notifier, userId),
        markRead: (userId, id) => markRead(notifier, userId, id),
        markAllRead: userId => markAllRead(notifier, userId),
      }),
      preferenceRoutes({
        guards,
        read: userId => readPreferences(notifier, userId),
        readMailedKinds: () => readMailedKinds(notifier),
        readMailBlock: userId => readMailBlock(sql, userId),
        change: (userId, change) => changePreferences(notifier, userId, change),
      }),
    ],
  }
}
