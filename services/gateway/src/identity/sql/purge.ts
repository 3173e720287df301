import type { Database } from '@pennywire/runtime/database.ts'

/** Expired rows stay a day, for an operator who looks into yesterday. */
const SPARE_DAYS = 1
const LOGIN_DAYS = 180
/** A user is a stranger at an address again after this time without a sign-in from there. */
const FAMILIAR_DAYS = 90
/** A PIN lock counts for a month; it stays for investigations as long as the sign-ins around it. */
const PIN_LOCK_DAYS = 180
/** Longer than a request is in flight: afterwards the ledger or gateway.payments stores which request has its key. */
const CLAIM_HOURS = 3
/** For requests that Kafka may not have, or whose command was not stored: no gateway sends them again. */
const UNCERTAIN_DAYS = 30
/** A receipt is made again on request, the same as before. */
const RECEIPT_DAYS = 1
/** A person's copy of their data: its parts go with it. */
const EXPORT_DAYS = 1
/** Rows per statement, so that no statement holds locks for long. */
const ROWS = 5_000

/**
 * Deletes some expired rows: mailed tokens, challenges, spent tokens of other issuers, abandoned sign-ins through a
 * provider, refresh tokens of ended sessions, old sign-ins, unused addresses, old PIN locks, key claims, requests,
 * receipts and exports.
 */
export const purgeExpired = async (sql: Database): Promise<{ deleted: number; more: boolean }> => {
  const counts = [
    await sql`
      delete from gateway.mailed_tokens where hash in (
        select hash from gateway.mailed_tokens
        where expires_at < now() - make_interval(days => ${SPARE_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.login_challenges where hash in (
        select hash from gateway.login_challenges
        where expires_at < now() - make_interval(days => ${SPARE_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.oidc_requests where state_hash in (
        select state_hash from gateway.oidc_requests
        where expires_at < now() - make_interval(days => ${SPARE_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.spent_external_tokens where hash in (
        select hash from gateway.spent_external_tokens
        where expires_at < now() - make_interval(days => ${SPARE_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.refresh_tokens where hash in (
        select t.hash from gateway.refresh_tokens t join gateway.sessions s on s.id = t.session_id
        where least(s.ended_at, s.expires_at) < now() - make_interval(days => ${SPARE_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.logins where id in (
        select id from gateway.logins
        where occurred_at < now() - make_interval(days => ${LOGIN_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.familiar_addresses where (user_id, address_hash) in (
        select user_id, address_hash from gateway.familiar_addresses
        where last_used_at < now() - make_interval(days => ${FAMILIAR_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.familiar_devices where (user_id, device_hash) in (
        select user_id, device_hash from gateway.familiar_devices
        where last_used_at < now() - make_interval(days => ${FAMILIAR_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.pin_locks where (user_id, locked_until) in (
        select user_id, locked_until from gateway.pin_locks
        where locked_at < now() - make_interval(days => ${PIN_LOCK_DAYS}) and not freeze_due limit ${ROWS})`,
    await sql`
      delete from gateway.key_claims where id in (
        select id from gateway.key_claims
        where claimed_at < now() - make_interval(hours => ${CLAIM_HOURS}) limit ${ROWS})`,
    await sql`
      delete from gateway.pending_requests where transfer_id in (
        select transfer_id from gateway.pending_requests
        where expires_at < now() - make_interval(days => ${SPARE_DAYS})
          and (decided_at < now() - make_interval(days => ${SPARE_DAYS})
            or expires_at < now() - make_interval(days => ${UNCERTAIN_DAYS})
              and (not acknowledged or command is null))
        limit ${ROWS})`,
    await sql`
      delete from gateway.receipts where (transfer_id, user_id) in (
        select transfer_id, user_id from gateway.receipts
        where requested_at < now() - make_interval(days => ${RECEIPT_DAYS}) limit ${ROWS})`,
    await sql`
      delete from gateway.exports where user_id in (
        select user_id from gateway.exports
        where requested_at < now() - make_interval(days => ${EXPORT_DAYS}) limit ${ROWS})`,
  ].map(({ count }) => count)
  return {
    deleted: counts.reduce((sum, count) => sum + count, 0),
    more: counts.some(count => count === ROWS),
  }
}
