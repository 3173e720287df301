import type { Codec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createTestDatabase } from '@pennywire/stack/test-database.ts'
import { readOutbox } from '../outbox/sql/outbox.ts'

/** For tests: a separate database with the gateway's schema, opened with the service's role. */
export const createGatewayDatabase = async (superuserUrl: string) => {
  const database = await createTestDatabase(superuserUrl, {
    schema: 'gateway',
    migrations: new URL('./migrations/', import.meta.url),
  })
  return {
    url: database.url('gateway'),
    urlAs: database.url,
    open: (): Database => openDatabase(database.url('gateway'), { applicationName: 'test' }),
    drop: database.drop,
  }
}

/** For tests: the outbox's records, decoded, oldest first. */
export const decodeOutbox = async (sql: Database, codec: Codec) => {
  const rows = await sql.begin(tx => readOutbox(tx, 10_000))
  return Promise.all(
    rows.map(async ({ record }) => ({
      topic: record.topic,
      key: record.key,
      headers: record.headers,
      ...(await codec.decode(record.value)),
    })),
  )
}

/** For tests: every row of every table of the schema as text, to search for forbidden content. */
export const dumpTables = async (sql: Database): Promise<string> => {
  const tables = await sql<Array<{ name: string }>>`
    select table_name as name from information_schema.tables where table_schema = 'gateway' and table_name <> 'migrations'`
  const dumps: string[] = []
  for (const { name } of tables) {
    const rows = await sql<Array<{ row: string }>>`select t::text as row from ${sql(`gateway.${name}`)} t`
    dumps.push(...rows.map(({ row }) => `${name} ${row}`))
  }
  return dumps.join('\n')
}

/** For tests: makes things that take a day or a week happen now. */
export const setClocks = {
  endPinLock: (sql: Database, userId: string) =>
    sql`update gateway.pins set locked_until = now() - interval '1 second' where user_id = ${userId}`,
  agePinLocks: (sql: Database, userId: string) =>
    sql`update gateway.pin_locks set locked_at = locked_at - interval '31 days' where user_id = ${userId}`,
  endGrace: (sql: Database) =>
    sql`update gateway.refresh_tokens set used_at = used_at - interval '11 seconds' where used_at is not null`,
  endIdleTime: (sql: Database) =>
    sql`update gateway.refresh_tokens set issued_at = now() - interval '8 days'`,
  expireMailedTokens: (sql: Database) => sql`update gateway.mailed_tokens set expires_at = now()`,
  /** The next code may be one of the same 30 seconds. */
  forgetCodeStep: (sql: Database, userId: string) =>
    sql`update gateway.second_factors set last_step = 0 where user_id = ${userId}`,
  endCodeLock: (sql: Database, userId: string) =>
    sql`update gateway.second_factors set locked_until = now() - interval '1 second' where user_id = ${userId}`,
  expireSecondFactorOffer: (sql: Database, userId: string) =>
    sql`update gateway.second_factors set made_at = now() - interval '11 minutes' where user_id = ${userId}`,
  expireChallenges: (sql: Database, userId: string) =>
    sql`update gateway.login_challenges set expires_at = now() where user_id = ${userId}`,
  expirePinReset: (sql: Database, userId: string) =>
    sql`update gateway.pin_resets set expires_at = now() where user_id = ${userId}`,
  endPinResetDay: (sql: Database, userId: string) =>
    sql`update gateway.pin_resets set asked_since = now() - interval '1 day' where user_id = ${userId}`,
  /** Half a year later. */
  ageAccounts: (sql: Database) =>
    sql.begin(async tx => {
      await tx`update gateway.mailed_tokens set expires_at = expires_at - interval '181 days'`
      await tx`
        update gateway.sessions
        set ended_at = ended_at - interval '181 days', expires_at = expires_at - interval '181 days'`
      await tx`update gateway.logins set occurred_at = occurred_at - interval '181 days'`
      await tx`update gateway.familiar_addresses set last_used_at = last_used_at - interval '181 days'`
      await tx`update gateway.familiar_devices set last_used_at = last_used_at - interval '181 days'`
    }),
  /** The rows of a gateway that died after ending the sessions, before it notified Redis. */
  endSessions: (sql: Database, userId: string) =>
    sql`update gateway.sessions set ended_at = now(), end_reason = 'logout' where user_id = ${userId}`,
  /** The absolute end of a user's sessions is near. */
  shortenSessions: (sql: Database, userId: string) =>
    sql`update gateway.sessions set expires_at = now() + interval '60 seconds' where user_id = ${userId}`,
  /** A key whose whole lifetime is over. */
  expireApiKey: (sql: Database, id: string) =>
    sql`update gateway.api_keys set created_at = created_at - interval '1 year', expires_at = now() where id = ${id}`,
  /** A key with so many seconds of its lifetime left. */
  shortenApiKey: (sql: Database, id: string, seconds: number) =>
    sql`update gateway.api_keys set expires_at = now() + make_interval(secs => ${seconds}) where id = ${id}`,
  /** Ends the overlap that a rotation gave to the old key. */
  endApiKeyOverlap: (sql: Database, id: string) =>
    sql`update gateway.api_keys set ended_at = now() where id = ${id} and ended_at > now()`,
  expireOidcRequests: (sql: Database) => sql`update gateway.oidc_requests set expires_at = now()`,
  /** Old enough to be purged. */
  ageOidcRequests: (sql: Database) =>
    sql`update gateway.oidc_requests set expires_at = now() - interval '25 hours'`,
  /** The address was verified by the previous version, which required no proof. */
  forgetOwnerProof: (sql: Database, userId: string) =>
    sql`update gateway.users set owner_proved_at = null where id = ${userId}`,
  forgetSignupNetwork: (sql: Database, userId: string) =>
    sql`update gateway.users set signup_network_hash = null where id = ${userId}`,
  /** All sessions of the user began six minutes ago. */
  ageSignIns: (sql: Database, userId: string) =>
    sql`update gateway.sessions set started_at = now() - interval '6 minutes' where user_id = ${userId}`,
  /** The user signed up a day ago. */
  ageSignup: (sql: Database, userId: string) =>
    sql`
      update gateway.users
      set created_at = created_at - interval '24 hours', replaced_at = replaced_at - interval '24 hours'
      where id = ${userId}`,
  disableUser: (sql: Database, userId: string) =>
    sql`update gateway.users set disabled_at = now() where id = ${userId}`,
}

/** For tests: a user's sessions ended before those that gateways push to Redis again and again. */
export const ageEndedSessions = async (ownerUrl: string, userId: string): Promise<void> => {
  const sql = openDatabase(ownerUrl, { applicationName: 'test', maxConnections: 1 })
  await sql`
    update gateway.sessions set ended_at = ended_at - interval '1 minute' where user_id = ${userId} and ended_at is not null`
  await sql.end()
}

/** For tests: for each lock of a user's PIN, oldest first, whether the user's wallets are to be frozen for it. */
export const readPinLocks = async (sql: Database, userId: string): Promise<boolean[]> => {
  const rows = await sql<Array<{ freezeDue: boolean }>>`
    select freeze_due as "freezeDue" from gateway.pin_locks where user_id = ${userId} order by locked_at`
  return rows.map(({ freezeDue }) => freezeDue)
}

/** For tests: locks an API key's row until the returned function is called. */
export const lockApiKey = async (sql: Database, id: string): Promise<() => Promise<void>> => {
  const released = Promise.withResolvers<void>()
  const locked = Promise.withResolvers<void>()
  const done = sql.begin(async tx => {
    await tx`select from gateway.api_keys where id = ${id} for update`
    locked.resolve()
    await released.promise
  })
  await locked.promise
  return async () => {
    released.resolve()
    await done
  }
}

/** For tests: the stored hash by which an API key is recognised. */
export const readApiKeyHash = async (sql: Database, id: string): Promise<Buffer> => {
  const [row] = await sql<Array<{ hash: Buffer }>>`
    select secret_hash as hash from gateway.api_keys where id = ${id}`
  return row!.hash
}

/** For tests: links a further identity to a user, at an issuer that is never queried. */
export const linkIdentity = (sql: Database, userId: string) =>
  sql`
    insert into gateway.external_identities (id, user_id, issuer, subject)
    values (gen_random_uuid(), ${userId}, 'https://sso.example', gen_random_uuid())`

/** For tests: the number of sign-ins in progress through a provider. */
export const countOidcRequests = async (sql: Database): Promise<number> => {
  const [row] = await sql<Array<{ count: number }>>`
    select count(*)::int as count from gateway.oidc_requests`
  return row!.count
}

/** For tests: the ids of the keys under which a user's secrets are stored. */
export const readKeyIds = async (sql: Database, userId: string) => {
  const [row] = await sql<Array<{ pin: string | null; secondFactor: string | null }>>`
    select (select pepper_id from gateway.pins where user_id = ${userId}) as pin,
      (select key_id from gateway.second_factors where user_id = ${userId}) as "secondFactor"`
  return row!
}

/**
 * For tests: so many more users; with `pinsOf` their PINs are that user's hash: as expensive to check, but no PIN
 * matches.
 */
export const insertCrowd = async (sql: Database, many: number, pinsOf?: string): Promise<string[]> => {
  const rows = await sql<Array<{ id: string }>>`
    with crowd as (
      insert into gateway.users (id, email, full_name, password_hash, email_verified_at)
      select gen_random_uuid(), gen_random_uuid() || '@example.com', 'Somebody Else', 'none', now()
      from generate_series(1, ${many})
      returning id
    ), pins as (
      insert into gateway.pins (user_id, pepper_id, hash)
      select crowd.id, p.pepper_id, p.hash from crowd, gateway.pins p where p.user_id = ${pinsOf ?? null}
    )
    select id from crowd`
  return rows.map(({ id }) => id)
}

/** For tests: the number of personal keys that each key-encryption key has wrapped. */
export const readKekIds = (sql: Database) =>
  sql<Array<{ kekId: string; count: number }>>`
    select kek_id as "kekId", count(*)::int as count from gateway.person_keys group by kek_id`

/** For tests: erases a person by deleting their key. */
export const destroyPersonKey = (sql: Database, userId: string) =>
  sql`delete from gateway.person_keys where user_id = ${userId}`

/** For tests: the view of the users that another service's role may read. */
export const readApiUsers = (sql: Database) => sql`select * from gateway_api.users`

/** For tests: the number of records in the outbox. */
export const countOutbox = async (sql: Database): Promise<number> => {
  const [row] = await sql<Array<{ count: number }>>`select count(*)::int as count from gateway.outbox`
  return row!.count
}

/** For tests: the numbers of tokens and sign-ins that are stored of a user. */
export const countKept = async (sql: Database, userId: string) => {
  const [row] = await sql<Array<{ mailed: number; refresh: number; logins: number; familiar: number }>>`
    select (select count(*)::int from gateway.mailed_tokens where user_id = ${userId}) as mailed,
      (select count(*)::int from gateway.refresh_tokens t join gateway.sessions s on s.id = t.session_id
        where s.user_id = ${userId}) as refresh,
      (select count(*)::int from gateway.logins where user_id = ${userId}) as logins,
      (select count(*)::int from gateway.familiar_addresses where user_id = ${userId})
        + (select count(*)::int from gateway.familiar_devices where user_id = ${userId}) as familiar`
  return row!
}

/** For tests: blocks reads and writes of users until the returned function is called. */
export const lockUsersTable = async (sql: Database): Promise<() => Promise<void>> => {
  let release = () => {}
  const released = new Promise<void>(resolve => {
    release = resolve
  })
  let locked = () => {}
  const isLocked = new Promise<void>(resolve => {
    locked = resolve
  })
  const done = sql.begin(async tx => {
    await tx`lock table gateway.users in access exclusive mode`
    locked()
    await released
  })
  await isLocked
  return async () => {
    release()
    await done
  }
}

/**
 * For tests: blocks changes of this user and new sessions for them until `release` is called. `waiting` returns the
 * number of blocked connections: they proceed in the order of their arrival.
 */
export const holdUser = async (sql: Database, userId: string) => {
  let release = () => {}
  const released = new Promise<void>(resolve => {
    release = resolve
  })
  let held = () => {}
  const isHeld = new Promise<void>(resolve => {
    held = resolve
  })
  const done = sql.begin(async tx => {
    await tx`select 1 from gateway.users where id = ${userId} for update`
    held()
    await released
  })
  await isHeld
  return {
    waiting: async (): Promise<number> => {
      const [row] = await sql<Array<{ count: number }>>`
        select count(distinct pid)::int as count from pg_locks join pg_stat_activity using (pid)
        where not granted and datname = current_database()`
      return row!.count
    },
    release: async () => {
      release()
      await done
    },
  }
}

/** For tests: whether an account is disabled, its open sessions and its live API keys. */
export const readLive = async (sql: Database, userId: string) => {
  const [row] = await sql<Array<{ disabled: boolean; sessions: string[]; keys: number }>>`
    select disabled_at is not null as disabled,
      array(select id::text from gateway.sessions s where s.user_id = u.id and s.ended_at is null) as sessions,
      (select count(*)::int from gateway.api_keys k
        where k.user_id = u.id and (k.ended_at is null or k.ended_at > now())) as keys
    from gateway.users u where u.id = ${userId}`
  return row!
}
