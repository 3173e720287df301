/** The events that webhooks tell, by their public names. Further ones may come. */
export const WEBHOOK_EVENT_TYPES = [
  'transfer.completed',
  'transfer.rejected',
  'hold.placed',
  'hold.ended',
  'wallet.opened',
  'wallet.frozen',
  'wallet.unfrozen',
  'wallet.closed',
  'wallet.limits_changed',
] as const
export type WebhookEventType = (typeof WEBHOOK_EVENT_TYPES)[number]
