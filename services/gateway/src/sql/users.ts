import type { Database, Tx } from '@pennywire/runtime/database.ts'

export type User = {
  id: string
  email: string
  fullName: string
  passwordHash: string
  emailVerified: boolean
  disabled: boolean
  roles: string[]
  createdAt: Date
}

const userColumns = (sql: Database | Tx) => sql`
  id, email, full_name as "fullName", password_hash as "passwordHash", email_verified_at is not null as "emailVerified",
  disabled_at is not null as disabled, roles, created_at as "createdAt"`

export const findUserByEmail = async (sql: Database | Tx, email: string): Promise<User | undefined> => {
  const [user] = await sql<User[]>`select ${userColumns(sql)} from gateway.users where email = ${email}`
  return user
}

export const findUser = async (sql: Database | Tx, id: string): Promise<User | undefined> => {
  const [user] = await sql<User[]>`select ${userColumns(sql)} from gateway.users where id = ${id}`
  return user
}

/** Inserts a user; false where the address belongs to somebody already. */
export const insertUser = async (
  tx: Tx,
  user: { id: string; email: string; fullName: string; passwordHash: string },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.users (id, email, full_name, password_hash)
    values (${user.id}, ${user.email}, ${user.fullName}, ${user.passwordHash})
    on conflict (email) do nothing`
  return count === 1
}

export const renameUser = async (sql: Database, id: string, fullName: string): Promise<User | undefined> => {
  const [user] = await sql<User[]>`
    update gateway.users set full_name = ${fullName} where id = ${id} returning ${userColumns(sql)}`
  return user
}

/** Marks the address as verified; false where it was before. */
export const markEmailVerified = async (tx: Tx, id: string): Promise<boolean> => {
  const { count } = await tx`
    update gateway.users set email_verified_at = now() where id = ${id} and email_verified_at is null`
  return count === 1
}

/**
 * Gives the user with this address a role, where the address is verified and they do not have it; returns their id
 * where that changed anything.
 */
export const grantRole = async (
  sql: Database | Tx,
  email: string,
  role: string,
): Promise<string | undefined> => {
  const [granted] = await sql<Array<{ id: string }>>`
    update gateway.users set roles = array_append(roles, ${role})
    where email = ${email} and email_verified_at is not null and not ${role} = any(roles)
    returning id`
  return granted?.id
}

export const insertMailedToken = async (
  tx: Tx,
  token: { hash: Buffer; userId: string; purpose: 'verify_email'; expiresAt: Date },
): Promise<void> => {
  await tx`
    insert into gateway.mailed_tokens (hash, user_id, purpose, expires_at)
    values (${token.hash}, ${token.userId}, ${token.purpose}, ${token.expiresAt})`
}

/** Spends a mailed token, in one statement, so that of two requests with it only one gets its user. */
export const spendMailedToken = async (
  tx: Tx,
  hash: Buffer,
  purpose: 'verify_email',
): Promise<string | undefined> => {
  const [spent] = await tx<Array<{ userId: string }>>`
    update gateway.mailed_tokens set used_at = now()
    where hash = ${hash} and purpose = ${purpose} and used_at is null and expires_at > now()
    returning user_id as "userId"`
  return spent?.userId
}

export const readNames = (sql: Database, ids: string[]): Promise<Array<{ id: string; fullName: string }>> =>
  sql<Array<{ id: string; fullName: string }>>`
    select id, full_name as "fullName" from gateway.users where id = any(${ids}::uuid[])`
