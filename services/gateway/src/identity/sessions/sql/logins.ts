import type { Database, Tx } from '@pennywire/runtime/database.ts'

export type Login = {
  id: string
  occurredAt: Date
  method: string
  failure: string | null
  sessionId: string | null
  address: Buffer | null
  device: Buffer | null
}

export const insertLogin = async (
  tx: Tx,
  login: Omit<Login, 'occurredAt'> & { userId: string },
): Promise<void> => {
  await tx`
    insert into gateway.logins (id, user_id, method, failure, session_id, address, device)
    values (${login.id}, ${login.userId}, ${login.method}, ${login.failure}, ${login.sessionId}, ${login.address},
      ${login.device})`
}

/** A user's sign-ins, newest first (ids are UUIDv7), below the cursor's id where one is given. */
export const listLogins = (
  sql: Database,
  page: { userId: string; before: string | undefined; limit: number },
): Promise<Login[]> => sql<Login[]>`
  select id, occurred_at as "occurredAt", method, failure, session_id as "sessionId", address, device
  from gateway.logins
  where user_id = ${page.userId} ${page.before === undefined ? sql`` : sql`and id < ${page.before}`}
  order by id desc limit ${page.limit}`
