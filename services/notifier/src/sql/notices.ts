import { kindOfNotice } from '@pennywire/messages/notices.ts'
import { arrayOf, TIMESTAMPTZ, type Tx, UUID } from '@pennywire/runtime/database.ts'
import type { Notice } from '../notices-for.ts'

/**
 * Puts notices into their users' lists, at the next numbers, and tells how many: those of an event that came again are
 * there already, and what a user does not want to be told in the app, or of an erased user, is left out.
 */
export const insertNotices = async (tx: Tx, notices: Notice[]): Promise<number> => {
  const { count } = await tx`
    with asked as (
      select * from unnest(
        ${notices.map(({ id }) => id)}::uuid[],
        ${notices.map(({ userId }) => userId)}::uuid[],
        ${notices.map(({ type }) => type)}::text[],
        ${notices.map(({ type }) => kindOfNotice(type))}::text[],
        ${notices.map(({ data }) => JSON.stringify(data))}::text[],
        ${arrayOf(
          tx,
          notices.map(({ aboutUserId }) => aboutUserId),
          UUID,
        )},
        ${arrayOf(
          tx,
          notices.map(({ transferId }) => transferId),
          UUID,
        )},
        ${tx.array(
          notices.map(({ createdAt }) => new Date(createdAt)),
          TIMESTAMPTZ,
        )}) with ordinality as q (id, user_id, type, kind, data, about_user_id, transfer_id, created_at, n)
    ), new as (
      select q.*, row_number() over (partition by q.user_id order by q.n) as nth, count(*) over (partition by q.user_id) as many
      from asked q
        -- By key, notice for notice: a plan made while the tables were small must not read them whole for ever.
        left join lateral (select true as known from notifier.notices where id = q.id limit 1) o on true
        left join lateral (
          select q.kind || ':in_app' = any (turned_off) as unwanted from notifier.preferences
          where user_id = q.user_id limit 1
        ) p on true
        left join lateral (select true as gone from notifier.erasures where user_id = q.user_id limit 1) e on true
      where o.known is null and p.unwanted is not true and e.gone is null
    ), inbox as (
      -- In the order of the ids: two instances' batches cannot wait for each other.
      insert into notifier.inboxes as i (user_id, last_seq, unread)
      select user_id, many, many from new where nth = 1 order by user_id
      on conflict (user_id) do update
        set last_seq = i.last_seq + excluded.last_seq, unread = i.unread + excluded.unread
      returning user_id, last_seq
    )
    insert into notifier.notices (user_id, seq, id, type, data, about_user_id, transfer_id, created_at)
    select n.user_id, i.last_seq - n.many + n.nth, n.id, n.type, n.data::jsonb, n.about_user_id, n.transfer_id, n.created_at
    from new n join inbox i using (user_id)`
  return count
}
