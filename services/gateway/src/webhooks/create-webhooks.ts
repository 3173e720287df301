import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Room } from '../http/room.ts'
import type { Announce } from '../identity/events/announce.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { createManageWebhooks } from './manage-webhooks.ts'
import { startTellingChanges } from './tell-changes.ts'
import { type WebhookRouteDeps, webhookRoutes } from './webhook-routes.ts'

/** Webhook endpoints: users and the operator manage them here, and the notifier delivers to them. */
export const createWebhooks = (
  deps: Omit<WebhookRouteDeps, 'webhooks'> &
    Omit<Parameters<typeof createManageWebhooks>[0], 'changed'> & {
      announce: Announce
      inTransaction: InTransaction
      logger: Logger
    },
): Room => {
  const telling = startTellingChanges(deps)
  return {
    routes: [webhookRoutes({ ...deps, webhooks: createManageWebhooks({ ...deps, changed: telling.wake }) })],
    stop: telling.stop,
  }
}
