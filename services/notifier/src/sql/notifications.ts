import { arrayOf, TIMESTAMPTZ, type Tx, UUID } from '@pennywire/runtime/database.ts'
import type { Notification } from '../message-for.ts'

/** Adds notifications and tells how many of them were new: those of an event that came again are there already. */
export const insertNotifications = async (tx: Tx, notifications: Notification[]): Promise<number> => {
  const { count } = await tx`
    insert into notifier.notifications (id, user_id, type, title, body, transfer_id, created_at)
    select * from unnest(
      ${notifications.map(({ id }) => id)}::uuid[],
      ${notifications.map(({ userId }) => userId)}::uuid[],
      ${notifications.map(({ type }) => type)}::text[],
      ${notifications.map(({ title }) => title)}::text[],
      ${notifications.map(({ body }) => body)}::text[],
      ${arrayOf(
        tx,
        notifications.map(({ transferId }) => transferId),
        UUID,
      )},
      ${tx.array(
        notifications.map(({ createdAt }) => new Date(createdAt)),
        TIMESTAMPTZ,
      )})
    on conflict (id) do nothing`
  return count
}
