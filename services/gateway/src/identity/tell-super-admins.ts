import type { Tx } from '@pennywire/runtime/database.ts'
import { appendToOutbox } from '../sql/outbox.ts'
import { listSuperAdmins } from '../sql/users.ts'
import type { Announce } from './announce.ts'

/** Mails all super_admins but the new one that there is a new one, in the transaction that makes it. */
export const tellSuperAdmins = async (
  tx: Tx,
  announce: Announce,
  newUserId: string,
  traceparent: string,
): Promise<void> => {
  const others = (await listSuperAdmins(tx)).filter(userId => userId !== newUserId)
  const mails = others.map(userId => announce.mail({ userId, template: 'super_admin_added' }, traceparent))
  await appendToOutbox(tx, await Promise.all(mails))
}
