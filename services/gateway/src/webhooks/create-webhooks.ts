import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import { createManageWebhooks } from './manage-webhooks.ts'
import { webhookRoutes } from './webhook-routes.ts'

/** Webhook endpoints: users and the operator manage them here, and the notifier delivers to them. */
export const createWebhooks = (
  deps: { guards: Guards } & Parameters<typeof createManageWebhooks>[0],
): Room => ({
  routes: [webhookRoutes({ guards: deps.guards, webhooks: createManageWebhooks(deps) })],
})
