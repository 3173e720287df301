import type { Database, Tx } from '@pennywire/runtime/database.ts'

export type User = {
  id: string
  email: string
  fullName: string
  /** Null until the owner of an account created through a provider sets a password. */
  passwordHash: string | null
  /** Changes with each new password; rehashing the same password keeps it. */
  passwordVersion: number
  /** Changes when the second factor is turned on or off, recovery codes are replaced, or an identity is unlinked. */
  secondFactorVersion: number
  secondFactorEnabled: boolean
  emailVerified: boolean
  disabled: boolean
  /** Nothing of the person is stored any more. */
  erased: boolean
  roles: string[]
  createdAt: Date
}

const userColumns = (sql: Database | Tx) => sql`
  id, email, full_name as "fullName", password_hash as "passwordHash",
  password_version as "passwordVersion", second_factor_version as "secondFactorVersion",
  exists (
    select 1 from gateway.second_factors f where f.user_id = users.id and f.enabled_at is not null
  ) as "secondFactorEnabled", email_verified_at is not null as "emailVerified",
  disabled_at is not null as disabled, erased_at is not null as erased, roles, created_at as "createdAt"`

export const findUserByEmail = async (sql: Database | Tx, email: string): Promise<User | undefined> => {
  const [user] = await sql<User[]>`select ${userColumns(sql)} from gateway.users where email = ${email}`
  return user
}

export const findUser = async (sql: Database | Tx, id: string): Promise<User | undefined> => {
  const [user] = await sql<User[]>`select ${userColumns(sql)} from gateway.users where id = ${id}`
  return user
}

/** The user of a linked identity. One statement, so that a concurrent unlink shows in `secondFactorVersion`. */
export const findLinkedUser = async (
  sql: Database,
  identity: { issuer: string; subject: string },
): Promise<User | undefined> => {
  const [user] = await sql<User[]>`
    select ${userColumns(sql)} from gateway.users
    where id = (
      select user_id from gateway.external_identities
      where issuer = ${identity.issuer} and subject = ${identity.subject})`
  return user
}

/** Inserts a user; false if the address is taken. */
export const insertUser = async (
  tx: Tx,
  user: {
    id: string
    email: string
    fullName: string
    passwordHash: string | null
    signupNetworkHash: string | null
  },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.users (id, email, full_name, password_hash, signup_network_hash)
    values (${user.id}, ${user.email}, ${user.fullName}, ${user.passwordHash}, ${user.signupNetworkHash})
    on conflict (email) do nothing`
  return count === 1
}

/**
 * Reassigns an account that was never verified to the next sign-up. False if it is verified, disabled, was ever signed
 * in to (impossible while unverified), or its latest sign-up is younger than `olderThanHours`.
 */
export const replaceUnverifiedUser = async (
  tx: Tx,
  user: { id: string; fullName: string; passwordHash: string | null; signupNetworkHash: string | null },
  olderThanHours: number,
): Promise<boolean> => {
  const { count } = await tx`
    update gateway.users
    set full_name = ${user.fullName}, password_hash = ${user.passwordHash}, replaced_at = now(),
      password_version = password_version + 1,
      signup_network_hash = ${user.signupNetworkHash}
    where id = ${user.id} and email_verified_at is null and disabled_at is null
      and coalesce(replaced_at, created_at) <= clock_timestamp() - make_interval(hours => ${olderThanHours})
      and not exists (select from gateway.sessions where user_id = ${user.id})`
  return count === 1
}

export const renameUser = async (tx: Tx, id: string, fullName: string): Promise<User | undefined> => {
  const [user] = await tx<User[]>`
    update gateway.users set full_name = ${fullName} where id = ${id} and erased_at is null returning ${userColumns(tx)}`
  return user
}

/** Reads the user under a share lock, which blocks any change until the transaction ends. */
export const lockUserShared = async (tx: Tx, id: string): Promise<User | undefined> => {
  const [user] = await tx<User[]>`
    select ${userColumns(tx)} from gateway.users where id = ${id} for share`
  return user
}

/** Locks and reads users in the order of their ids, for a change that depends on their current state. */
export const lockUsers = (tx: Tx, ids: string[]): Promise<User[]> => tx<User[]>`
  select ${userColumns(tx)} from gateway.users where id = any(${ids}::uuid[]) order by id for update`

export const setPasswordHash = async (tx: Tx, id: string, passwordHash: string): Promise<void> => {
  await tx`
    update gateway.users set password_hash = ${passwordHash}, password_version = password_version + 1 where id = ${id}`
}

/** Stores another hash of the same password; does nothing if the password has changed meanwhile. */
export const renewPasswordHash = async (
  sql: Database,
  { id, passwordHash, insteadOf }: { id: string; passwordHash: string; insteadOf: string },
): Promise<void> => {
  await sql`
    update gateway.users set password_hash = ${passwordHash} where id = ${id} and password_hash = ${insteadOf}`
}

/** The most common bcrypt cost in a sample of password hashes; undefined if there are none. */
export const readCommonCost = async (sql: Database): Promise<number | undefined> => {
  const [row] = await sql<Array<{ cost: number }>>`
    select substr(password_hash, 5, 2)::int as cost
    from (select password_hash from gateway.users where password_hash is not null limit 1000) sample
    group by 1 order by count(*) desc, 1 desc limit 1`
  return row?.cost
}

export const setRoles = async (tx: Tx, id: string, roles: string[]): Promise<void> => {
  await tx`
    update gateway.users
    set roles = ${roles},
      super_admin_since = coalesce(super_admin_since, case when 'super_admin' = any(${roles}) then now() end)
    where id = ${id}`
}

export const disableUser = async (
  tx: Tx,
  user: { id: string; source: 'self' | 'staff'; reason: Buffer | null },
): Promise<void> => {
  await tx`
    update gateway.users
    set disabled_at = now(), disabled_source = ${user.source}, disabled_reason = ${user.reason}
    where id = ${user.id}`
}

export const enableUser = async (tx: Tx, id: string): Promise<void> => {
  await tx`
    update gateway.users set disabled_at = null, disabled_source = null, disabled_reason = null where id = ${id}`
}

export type UserForStaff = User & {
  disabledAt: Date | null
  disabledSource: string | null
  disabledReason: Buffer | null
}

const staffColumns = (sql: Database) => sql`
  ${userColumns(sql)}, disabled_at as "disabledAt", disabled_source as "disabledSource",
  disabled_reason as "disabledReason"`

export const findUserForStaff = async (sql: Database, id: string): Promise<UserForStaff | undefined> => {
  const [user] = await sql<UserForStaff[]>`select ${staffColumns(sql)} from gateway.users where id = ${id}`
  return user
}

/** Users whose address starts with `emailPrefix`, ordered by address, after the user of the cursor. */
export const listUsers = (
  sql: Database,
  page: {
    emailPrefix: string
    role: string | undefined
    disabled: boolean | undefined
    afterId: string | undefined
    limit: number
  },
): Promise<UserForStaff[]> => sql<UserForStaff[]>`
  select ${staffColumns(sql)} from gateway.users
  where email collate "C" like ${`${page.emailPrefix.replace(/[\\%_]/g, '\\$&')}%`}
    ${page.role === undefined ? sql`` : sql`and ${page.role} = any(roles)`}
    ${page.disabled === undefined ? sql`` : sql`and (disabled_at is not null) = ${page.disabled}`}
    ${
      page.afterId === undefined
        ? sql``
        : sql`and email collate "C" > (select u.email collate "C" from gateway.users u where u.id = ${page.afterId})`
    }
  order by email collate "C" limit ${page.limit}`

/** Whether an account was made from the network that has this keyed hash. */
export const isSignupNetwork = async (sql: Database, id: string, networkHash: string): Promise<boolean> =>
  (await sql`select from gateway.users where id = ${id} and signup_network_hash = ${networkHash}`).length ===
  1

/** Marks the address as verified; false if it already was. */
export const markEmailVerified = async (tx: Tx, id: string): Promise<boolean> => {
  const { count } = await tx`
    update gateway.users set email_verified_at = now(), signup_network_hash = null
    where id = ${id} and email_verified_at is null`
  return count === 1
}

/** Records the owner's proof that the account's password is theirs, or that the account has none. */
export const markOwnerProved = async (tx: Tx, id: string): Promise<void> => {
  await tx`update gateway.users set owner_proved_at = now() where id = ${id} and owner_proved_at is null`
}

/**
 * Makes the user with this address super_admin if the address is verified, its owner proved that the password is
 * theirs, and the user never had the role. Returns the changed user, or undefined. A user whom another super_admin
 * demoted does not get the role back.
 */
export const grantSuperAdmin = async (tx: Tx, email: string): Promise<User | undefined> => {
  const [granted] = await tx<User[]>`
    update gateway.users set roles = array_append(roles, 'super_admin'), super_admin_since = now()
    where email = ${email} and email_verified_at is not null and owner_proved_at is not null
      and super_admin_since is null
    returning ${userColumns(tx)}`
  return granted
}

/** Whether the owner of this address verified it without proving that the account's password is theirs. */
export const isOwnerUnproved = async (sql: Database, email: string): Promise<boolean> =>
  (
    await sql`
      select from gateway.users
      where email = ${email} and email_verified_at is not null and owner_proved_at is null and super_admin_since is null`
  ).length === 1

/** Some enabled super_admins, ordered by id, after `afterId`. */
export const listSuperAdmins = async (
  tx: Tx,
  afterId: string | undefined,
  limit: number,
): Promise<string[]> => {
  const rows = await tx<Array<{ id: string }>>`
    select id from gateway.users where 'super_admin' = any(roles) and disabled_at is null
      ${afterId === undefined ? tx`` : tx`and id > ${afterId}`}
    order by id limit ${limit}`
  return rows.map(({ id }) => id)
}

type MailedTokenPurpose = 'verify_email' | 'reset_password'

export const insertMailedToken = async (
  tx: Tx,
  token: { hash: Buffer; userId: string; purpose: MailedTokenPurpose; expiresAt: Date },
): Promise<void> => {
  await tx`
    insert into gateway.mailed_tokens (hash, user_id, purpose, expires_at)
    values (${token.hash}, ${token.userId}, ${token.purpose}, ${token.expiresAt})`
}

/** The number of tokens mailed to a user for this purpose within the last `seconds`. */
export const countMailedTokens = async (
  sql: Database | Tx,
  userId: string,
  purpose: MailedTokenPurpose,
  seconds: number,
): Promise<number> => {
  const [row] = await sql<[{ count: number }]>`
    select count(*)::int as count from gateway.mailed_tokens
    where user_id = ${userId} and purpose = ${purpose} and issued_at > now() - make_interval(secs => ${seconds})`
  return row.count
}

/** The user of a mailed token that is unused and unexpired. */
export const readMailedToken = async (
  sql: Database,
  hash: Buffer,
  purpose: MailedTokenPurpose,
): Promise<string | undefined> => {
  const [token] = await sql<Array<{ userId: string }>>`
    select user_id as "userId" from gateway.mailed_tokens
    where hash = ${hash} and purpose = ${purpose} and used_at is null and expires_at > now()`
  return token?.userId
}

/** Spends a mailed token in one statement, so that of two requests with one token only one gets its user. */
export const spendMailedToken = async (
  tx: Tx,
  hash: Buffer,
  purpose: MailedTokenPurpose,
): Promise<string | undefined> => {
  const [spent] = await tx<Array<{ userId: string }>>`
    update gateway.mailed_tokens set used_at = now()
    where hash = ${hash} and purpose = ${purpose} and used_at is null and expires_at > now()
    returning user_id as "userId"`
  return spent?.userId
}

/** Spends a user's remaining tokens for this purpose, because the purpose is fulfilled. */
export const spendMailedTokensOf = async (
  tx: Tx,
  userId: string,
  purpose: MailedTokenPurpose,
): Promise<void> => {
  await tx`
    update gateway.mailed_tokens set used_at = now()
    where user_id = ${userId} and purpose = ${purpose} and used_at is null`
}

export const readNames = (sql: Database, ids: string[]): Promise<Array<{ id: string; fullName: string }>> =>
  sql<Array<{ id: string; fullName: string }>>`
    select id, full_name as "fullName" from gateway.users where id = any(${ids}::uuid[])`
