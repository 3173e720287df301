import type { Room } from '../http/room.ts'
import { createManageWebhooks } from './manage-webhooks.ts'
import { type WebhookRouteDeps, webhookRoutes } from './webhook-routes.ts'

/** Webhook endpoints: users and the operator manage them here, and the notifier delivers to them. */
export const createWebhooks = (
  deps: Pick<WebhookRouteDeps, 'guards' | 'confirmPassword'> & Parameters<typeof createManageWebhooks>[0],
): Room => ({
  routes: [webhookRoutes({ ...deps, webhooks: createManageWebhooks(deps) })],
})
