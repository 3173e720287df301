import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Records of an erased user may come for as long: topics of commands are kept for a week. */
const LATE_DAYS = 8
/** Erased users that one round looks at. */
const AT_ONCE = 500

/** Deletes everything about users: what goes out to them, their notices, choices and webhooks with their logs. */
const clearUsers = async (tx: Tx, userIds: string[]): Promise<void> => {
  // The end of these webhooks is told by the erasure itself, without their addresses. Changes that are not told yet are a
  // gateway's to take, which it does within moments.
  await tx`select set_config('pennywire.change', '{"reason": "erased"}', true)`
  await tx`delete from notifier.webhook_endpoints where owner_id = any (${userIds}::uuid[])`
  await tx`delete from notifier.changed_urls where owner_id = any (${userIds}::uuid[])`
  // Lists are locked before their notices, as by what adds to them.
  await tx`select from notifier.inboxes where user_id = any (${userIds}::uuid[]) order by user_id for update`
  await tx`delete from notifier.notices where user_id = any (${userIds}::uuid[])`
  await tx`delete from notifier.deliveries where user_id = any (${userIds}::uuid[]) and endpoint_id is null`
  await tx`delete from notifier.inboxes where user_id = any (${userIds}::uuid[])`
  await tx`delete from notifier.preferences where user_id = any (${userIds}::uuid[])`
  await tx`select set_config('pennywire.change', '', true)`
}

/** Erases users: clears what there is of them, and remembers their ids, so that what comes late is cleared as well. */
export const eraseUsers = async (tx: Tx, userIds: string[]): Promise<void> => {
  const ids = [...new Set(userIds)].sort()
  await tx`
    insert into notifier.erasures (user_id) select unnest(${ids}::uuid[]) on conflict do nothing`
  await clearUsers(tx, ids)
}

/** Clears what was stored of erased users since: by records of other partitions, or by a request that had begun. */
export const eraseLate = (sql: Database): Promise<void> =>
  sql.begin(async tx => {
    const rows = await tx<Array<{ userId: string }>>`
      select user_id as "userId" from notifier.erasures
      where erased_at > now() - make_interval(days => ${LATE_DAYS})
        and (exists (select from notifier.notices n where n.user_id = erasures.user_id)
          or exists (select from notifier.inboxes i where i.user_id = erasures.user_id)
          or exists (select from notifier.preferences p where p.user_id = erasures.user_id)
          or exists (select from notifier.webhook_endpoints e where e.owner_id = erasures.user_id)
          or exists (select from notifier.deliveries d where d.user_id = erasures.user_id and d.endpoint_id is null))
      order by user_id limit ${AT_ONCE}`
    if (rows.length > 0)
      await clearUsers(
        tx,
        rows.map(({ userId }) => userId),
      )
  })
