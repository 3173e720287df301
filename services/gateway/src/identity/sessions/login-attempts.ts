import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { addressSubject } from '../../http/client-address.ts'
import type { TakeFromLimits, Taken } from '../../http/rate-limit.ts'
import { ProblemError } from '../../problems/problem.ts'
import { currentRequest } from '../../queues/request-scope.ts'
import { readFamiliarSince, rememberAddress, rememberSignIn } from './sql/familiar-addresses.ts'

export type LoginAttempts = {
  /**
   * Counts a try of a password, before it is looked at. `taken` says whether there was room; `giveBack` is for tries
   * that were no guess. Throws SERVICE_UNAVAILABLE where it cannot be counted.
   */
  begin: (email: string, address: string) => Promise<{ taken: Taken; giveBack: () => Promise<void> }>
  /**
   * From now on the user is known at this address: they have shown there, by a mail, who they are. Wrong tries from there
   * count no more: else somebody in the same network would have locked the owner out.
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
 * Limits the tries of a password for one account over all addresses: the limit by address alone leaves room for a guesser
 * with many. Tries from an address that the user has signed in from get their own limit. All other addresses share one
 * limit per account, so an attacker can exhaust only the shared one; the owner can still sign in from a known address, and
 * from any other after a mail (a new password, or the verification). E-mail addresses without an account are counted in the
 * same way, so that nothing tells them apart.
 */
export const createLoginAttempts = (deps: {
  sql: Database
  takeFromLimits: TakeFromLimits
  /** A keyed hash: neither Redis nor the table gets to know an address. */
  hash: (text: string) => string
}): LoginAttempts => {
  const { sql, takeFromLimits, hash } = deps
  // An IPv6 subscriber has another address each day, and the same network.
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
