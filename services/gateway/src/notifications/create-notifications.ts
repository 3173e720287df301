import { openDatabase, ping } from '@pennywire/runtime/database.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import { notificationRoutes } from './notification-routes.ts'
import { countUnread, readNotifications } from './sql/notifications.ts'

/** What the notifier has written for a user, read from its published views. */
export const createNotifications = (deps: {
  guards: Guards
  readUrl: string
  instanceId: string
}): Room & { check: () => Promise<void> } => {
  const notifierRead = openDatabase(deps.readUrl, {
    applicationName: `${deps.instanceId}-reads-notifier`,
    maxConnections: 4,
  })
  return {
    routes: [
      notificationRoutes({
        guards: deps.guards,
        readNotifications: (userId, before, unreadOnly, limit) =>
          readNotifications(notifierRead, userId, before, unreadOnly, limit),
        countUnread: userId => countUnread(notifierRead, userId),
      }),
    ],
    check: () => ping(notifierRead),
    stop: () => notifierRead.end(),
  }
}
