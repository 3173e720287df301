import type { Tx } from '@pennywire/runtime/database.ts'

type ClearOut = (tx: Tx, userId: string) => PromiseLike<unknown>

/**
 * Where the gateway stores something of a person, and what erasing the person does there: docs/privacy.md states the
 * same. Rows that others refer to stay, without what is personal. In an order in which no row refers to a deleted one.
 */
export const CLEAR_OUTS: Record<string, ClearOut> = {
  // What is written under the key in topics, the journal, the books and backups is unreadable from here on.
  person_keys: (tx, id) => tx`delete from gateway.person_keys where user_id = ${id}`,
  users: (tx, id) => tx`
    update gateway.users
    set email = id::text || '@erased.invalid', full_name = '', password_hash = null, email_verified_at = null,
      signup_network_hash = null, roles = '{user}', disabled_at = coalesce(disabled_at, now()),
      disabled_source = coalesce(disabled_source, (
        select case source when 'self' then 'self' else 'staff' end from gateway.erasures e where e.user_id = users.id)),
      disabled_reason = null,
      -- A sign-in or a new password that has begun ends with the password that it checked.
      password_version = password_version + 1, second_factor_version = second_factor_version + 1,
      -- No mail goes to an address that nobody has.
      mail_blocked_at = coalesce(mail_blocked_at, now()), mail_block_reason = 'erased',
      erased_at = coalesce(erased_at, now())
    where id = ${id}`,
  mailed_tokens: (tx, id) => tx`delete from gateway.mailed_tokens where user_id = ${id}`,
  refresh_tokens: (tx, id) => tx`
    delete from gateway.refresh_tokens where session_id in (select id from gateway.sessions where user_id = ${id})`,
  logins: (tx, id) => tx`delete from gateway.logins where user_id = ${id}`,
  oidc_requests: (tx, id) => tx`delete from gateway.oidc_requests where user_id = ${id}`,
  exports: (tx, id) => tx`delete from gateway.exports where user_id = ${id}`,
  // The end of a session has to be known until its tokens have expired.
  sessions: (tx, id) => tx`update gateway.sessions set device = null where user_id = ${id}`,
  pins: (tx, id) => tx`delete from gateway.pins where user_id = ${id}`,
  pin_resets: (tx, id) => tx`delete from gateway.pin_resets where user_id = ${id}`,
  pin_locks: (tx, id) => tx`delete from gateway.pin_locks where user_id = ${id}`,
  second_factors: (tx, id) => tx`delete from gateway.second_factors where user_id = ${id}`,
  recovery_codes: (tx, id) => tx`delete from gateway.recovery_codes where user_id = ${id}`,
  login_challenges: (tx, id) => tx`delete from gateway.login_challenges where user_id = ${id}`,
  external_identities: (tx, id) => tx`delete from gateway.external_identities where user_id = ${id}`,
  // What was done by a key can be traced to its id.
  api_keys: (tx, id) => tx`update gateway.api_keys set name = '\\x', prefix = '' where user_id = ${id}`,
  familiar_addresses: (tx, id) => tx`delete from gateway.familiar_addresses where user_id = ${id}`,
  familiar_devices: (tx, id) => tx`delete from gateway.familiar_devices where user_id = ${id}`,
  receipts: (tx, id) => tx`delete from gateway.receipts where user_id = ${id}`,
  pending_requests: (tx, id) => tx`delete from gateway.pending_requests where user_id = ${id}`,
  // The books and the provider are compared by the rest.
  payments: (tx, id) => tx`
    update gateway.payments set method = '\\x', failure_reason = null where user_id = ${id}`,
}

/** Clears everything that the gateway stores of a person, their key first. */
export const clearPerson = async (tx: Tx, userId: string): Promise<void> => {
  for (const clear of Object.values(CLEAR_OUTS)) await clear(tx, userId)
}
