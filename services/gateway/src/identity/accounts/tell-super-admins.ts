import type { Tx } from '@pennywire/runtime/database.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import type { Announce } from '../events/announce.ts'
import { listSuperAdmins } from '../persons/sql/users.ts'

const PAGE = 100

/** Notifies all other super_admins of a new one by mail, in the transaction that grants the role. */
export const tellSuperAdmins = async (
  tx: Tx,
  announce: Announce,
  newUserId: string,
  traceparent: string,
): Promise<void> => {
  for (let page = await listSuperAdmins(tx, undefined, PAGE); page.length > 0; ) {
    const others = page.filter(userId => userId !== newUserId)
    const mails = others.map(userId => announce.mail({ userId, template: 'super_admin_added' }, traceparent))
    await appendToOutbox(tx, await Promise.all(mails))
    page = page.length < PAGE ? [] : await listSuperAdmins(tx, page.at(-1), PAGE)
  }
}
