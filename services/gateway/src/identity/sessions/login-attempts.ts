import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { addressSubject } from '../../http/client-address.ts'
import type { TakeFromLimits, Taken } from '../../http/rate-limit.ts'
import { ProblemError } from '../../problems/problem.ts'
import { currentRequest } from '../../queues/request-scope.ts'
import { readFamiliarSince, rememberAddress, rememberSignIn } from './sql/familiar-addresses.ts'

export type LoginAttempts = {
  /**
   * Counts a password attempt before the password is checked. `taken` states whether the limit has room; `giveBack`
   * releases attempts that were no guesses. Throws SERVICE_UNAVAILABLE if the attempt cannot be counted.
   */
  begin: (email: string, address: string) => Promise<{ taken: Taken; giveBack: () => Promise<void> }>
  /**
   * Marks this address as known for the user, who has proved their identity from it by a mail. Earlier wrong attempts from
   * the address are discarded: else an attacker in the same network would have locked the owner out.
   */
  rememberMail: (sql: Database | Tx, shown: { userId: string; address: string }) => Promise<void>
  /**
   * From now on the user is known at this address and with this device: they sign in. Tells whether one of the two is
   * new; at the first sign-in of all neither is. Called before the session is stored.
   */
  rememberSignIn: (
    tx: Tx,
    shown: { userId: string; address: string; userAgent: string | undefined },
  ) => Promise<{ isNewPlace: boolean }>
}

/**
 * Limits password attempts per account over all addresses: the limit per address alone leaves room for an attacker with
 * many addresses. Attempts from an address that the user has signed in from have their own limit. All other addresses
 * share one limit per account, so an attacker can exhaust only the shared one; the owner can still sign in from a known
 * address, and from any other after a mail (a new password, or the verification). E-mail addresses without an account
 * are counted in the same way, so that the limits do not reveal which accounts exist.
 */
export const createLoginAttempts = (deps: {
  sql: Database
  takeFromLimits: TakeFromLimits
  /** A keyed hash: neither Redis nor the table stores an address. */
  hash: (text: string) => string
}): LoginAttempts => {
  const { sql, takeFromLimits, hash } = deps
  // An IPv6 subscriber's address changes each day; the network stays the same.
  const hashOf = (address: string) => hash(`familiar\0${addressSubject(address)}`)

  return {
    begin: async (email, address) => {
      const addressHash = hashOf(address)
      const account = hash(`account\0${email}`)
      const since = await readFamiliarSince(sql, { email, addressHash })
      const scope = currentRequest()
      if (scope && since) scope.known = true
      const subject = since ? `${account}:${addressHash}:${since.getTime()}` : account
      try {
        const { giveBack, ...taken } = await takeFromLimits([{ name: 'LOGIN_ACCOUNT', subject }])
        return { taken, giveBack }
      } catch {
        throw new ProblemError('SERVICE_UNAVAILABLE', 'Sign-ins cannot be counted now; try again.')
      }
    },
    rememberMail: (tx, { userId, address }) => rememberAddress(tx, { userId, addressHash: hashOf(address) }),
    rememberSignIn: async (tx, { userId, address, userAgent = '' }) => {
      // Without its numbers: an update of the browser makes no new device.
      const deviceHash = hash(`device\0${userAgent.replace(/\d+/g, '')}`)
      const known = await rememberSignIn(tx, { userId, addressHash: hashOf(address), deviceHash })
      return { isNewPlace: known.session && (!known.address || (known.anyDevice && !known.device)) }
    },
  }
}
