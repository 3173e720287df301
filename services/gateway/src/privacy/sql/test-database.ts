import type { Database } from '@pennywire/runtime/database.ts'

/** For tests: the ledger's views in the gateway's database, over tables that a test fills. */
export const createLedgerViews = async (owner: Database): Promise<void> => {
  await owner.unsafe(`
    create schema ledger_api;
    create table ledger_api.wallets (
      id uuid primary key, user_id uuid, code text default 'PW-00000000', currency text default 'USD', status text,
      freeze_source text, freeze_reason bytea, label bytea, balance bigint, available bigint, sequence bigint default 0,
      opened_at timestamptz default now(), closed_at timestamptz);
    create table ledger_api.commands (id uuid primary key);`)
}

/** For tests: the wallets of a user, as the ledger states them. */
export const setWallets = async (
  owner: Database,
  userId: string,
  wallets: Array<{ id: string; balance: bigint; status: string }>,
): Promise<void> => {
  await owner`delete from ledger_api.wallets where user_id = ${userId}`
  for (const { id, balance, status } of wallets) {
    await owner`
      insert into ledger_api.wallets (id, user_id, status, balance, available)
      values (${id}, ${userId}, ${status}, ${balance}, ${balance})`
  }
}

/** For tests: the ledger decided a command to close, and the wallet is open afterwards. */
export const openLateWallet = async (
  owner: Database,
  userId: string,
  walletId: string,
  decidedId: string,
): Promise<void> => {
  await owner`insert into ledger_api.commands (id) values (${decidedId})`
  await setWallets(owner, userId, [{ id: walletId, balance: 0n, status: 'active' }])
}

export const makeCheckDue = (owner: Database, userId: string) =>
  owner`update gateway.erasures set look_at = now() where user_id = ${userId}`

/** For tests: the tables of the gateway's schema that name a user, by a column or a foreign key. */
export const readColumnsOfUsers = async (owner: Database): Promise<string[]> => {
  const rows = await owner<Array<{ name: string }>>`
    select distinct c.table_name as name from information_schema.columns c
      join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'gateway' and t.table_type = 'BASE TABLE'
      and c.column_name in ('user_id', 'owner_id')
    order by 1`
  return rows.map(({ name }) => name)
}

/** For tests: a row about a user in each table, with a marker where it holds text or bytes. */
export const fillEveryTable = (owner: Database, userId: string, marker: string): Promise<unknown> =>
  owner.begin(async tx => {
    const bytes = Buffer.from(`${marker} in bytes`)
    const hash = Buffer.concat([Buffer.from(marker), Buffer.alloc(32)]).subarray(0, 32)
    const [session] = await tx`
      update gateway.sessions set device = ${bytes} where user_id = ${userId} returning id`
    const sessionId: string = session!.id
    await tx`update gateway.users set signup_network_hash = ${marker} where id = ${userId}`
    await tx`
      insert into gateway.mailed_tokens (hash, user_id, purpose, expires_at)
      values (${hash}, ${userId}, 'reset_password', now() + interval '1 hour')`
    await tx`insert into gateway.refresh_tokens (hash, session_id) values (${hash}, ${sessionId})`
    await tx`
      insert into gateway.logins (id, user_id, method, failure, address, device)
      values (gen_random_uuid(), ${userId}, 'password', 'wrong_password', ${bytes}, ${bytes})`
    await tx`
      insert into gateway.oidc_requests (state_hash, browser_hash, provider, user_id, session_id, expires_at)
      values (${hash}, ${hash}, ${marker}, ${userId}, ${sessionId}, now() + interval '1 hour')`
    await tx`insert into gateway.exports (user_id, session_id) values (${userId}, ${sessionId})`
    await tx`insert into gateway.export_parts (user_id, part, cipher) values (${userId}, 0, ${bytes})`
    await tx`insert into gateway.pins (user_id, pepper_id, hash) values (${userId}, 'p', ${marker})`
    await tx`
      insert into gateway.pin_resets (user_id, id, pepper_id, hash, expires_at)
      values (${userId}, gen_random_uuid(), 'p', ${hash}, now())`
    await tx`
      insert into gateway.pin_locks (user_id, locked_until, freeze_due) values (${userId}, now(), false)`
    await tx`
      insert into gateway.second_factors (user_id, key_id, sealed_secret) values (${userId}, 'k', ${bytes})`
    await tx`
      insert into gateway.recovery_codes (user_id, pepper_id, hash) values (${userId}, 'p', ${hash})`
    await tx`
      insert into gateway.login_challenges (hash, user_id, proven, expires_at)
      values (${hash}, ${userId}, ${bytes}, now())`
    await tx`
      insert into gateway.external_identities (id, user_id, issuer, subject)
      values (gen_random_uuid(), ${userId}, 'https://sso.example', ${marker})`
    await tx`
      insert into gateway.api_keys (id, user_id, name, prefix, secret_hash, scopes, expires_at)
      values (gen_random_uuid(), ${userId}, ${bytes}, ${marker}, sha256(${hash}), '{wallets:read}', now() + interval '1 day')`
    await tx`insert into gateway.familiar_addresses (user_id, address_hash) values (${userId}, ${marker})`
    await tx`insert into gateway.familiar_devices (user_id, device_hash) values (${userId}, ${marker})`
    await tx`
      insert into gateway.receipts (transfer_id, user_id, language, pdf)
      values (gen_random_uuid(), ${userId}, 'en', ${bytes})`
    await tx`
      insert into gateway.pending_requests (transfer_id, user_id, type, amount, currency, fingerprint, note, requested_at,
        expires_at, acknowledged)
      values (gen_random_uuid(), ${userId}, 'transfer', 1, 'USD', '\\x00', ${bytes}, now(), now(), true)`
    await tx`
      insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, status,
        failure_reason, requested_at, updated_at, done_at)
      values (gen_random_uuid(), 'deposit', ${userId}, gen_random_uuid(), 1, 'USD', ${bytes}, '\\x00', 'failed',
        ${marker}, now(), now(), now())`
  })
