import { randomUUIDv7 } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Caller } from '../../access/requester.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { insertLogin, listLogins } from './sql/logins.ts'

const DEVICE_LENGTH_MAX = 200
const ADDRESS_PURPOSE = 'login-address'
const DEVICE_PURPOSE = 'login-device'

/** How the user authenticated. */
export type LoginMethod = 'password' | 'second_factor' | 'external' | 'oidc'

/** The caller's address and device, encrypted under the user's person key. */
type SealedCaller = { address: Buffer; device: Buffer | null }

export type LoginHistory = {
  seal: (userId: string, caller: Caller) => Promise<SealedCaller>
  /** Records a successful sign-in in the transaction that starts its session. */
  succeeded: (
    tx: Tx,
    login: { userId: string; sessionId: string; method: LoginMethod; sealed: SealedCaller },
  ) => Promise<void>
  /**
   * Records a failed sign-in with its LoginFailed event. Runs in the background, so that response time does not reveal
   * whether the account exists.
   */
  failed: (userId: string, failure: { method: LoginMethod; reason: string }, caller: Caller) => void
  /** A user's sign-ins, newest first. */
  list: (page: { userId: string; before: string | undefined; limit: number }) => Promise<
    Array<{
      id: string
      occurredAt: Date
      method: string
      failure: string | null
      sessionId: string | null
      address: string | null
      device: string | null
    }>
  >
}

/** The sign-in history of each account, which its owner reads. */
export const createLoginHistory = (deps: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  personKeys: PersonKeys
  logger: Logger
}): LoginHistory => {
  const { sql, inTransaction, announce, personKeys, logger } = deps

  const seal: LoginHistory['seal'] = async (userId, { address, userAgent }) => ({
    address: await personKeys.encryptFor(userId, address, ADDRESS_PURPOSE),
    device: userAgent
      ? await personKeys.encryptFor(userId, userAgent.slice(0, DEVICE_LENGTH_MAX), DEVICE_PURPOSE)
      : null,
  })

  return {
    seal,
    succeeded: (tx, { sealed, ...login }) =>
      insertLogin(tx, { id: randomUUIDv7(), failure: null, ...login, ...sealed }),
    failed: (userId, { method, reason }, caller) => {
      const { addressHash, traceparent } = caller
      const event = announce.identityEvent('LoginFailed', { userId, reason, addressHash }, traceparent)
      const write = async () => {
        const sealed = await seal(userId, caller)
        await inTransaction(async tx => {
          await insertLogin(tx, {
            id: randomUUIDv7(),
            userId,
            method,
            failure: reason,
            sessionId: null,
            ...sealed,
          })
          await appendToOutbox(tx, [event])
        })
      }
      write().catch(error => logger.error({ err: error }, 'a failed sign-in was not recorded'))
    },
    list: async page => {
      const logins = await listLogins(sql, page)
      const open = async (cipher: Buffer | null, purpose: string) =>
        cipher ? personKeys.decryptFor(page.userId, cipher, purpose) : null
      return Promise.all(
        logins.map(async login => ({
          ...login,
          address: await open(login.address, ADDRESS_PURPOSE),
          device: await open(login.device, DEVICE_PURPOSE),
        })),
      )
    },
  }
}
