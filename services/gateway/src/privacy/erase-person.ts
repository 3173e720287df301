import { randomUUID } from 'node:crypto'
import { erasureCloseIdOf } from '@pennywire/contracts/ids.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { endApiKeys } from '../identity/api-keys/api-keys.ts'
import type { Announce } from '../identity/events/announce.ts'
import { findUser, lockUsers, type User } from '../identity/persons/sql/users.ts'
import { ACCOUNT_DISABLED } from '../identity/sessions/sessions.ts'
import { endSessions } from '../identity/sessions/sql/sessions.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import { readDecidedIds, readWalletsOf, type WalletFacts } from '../ledger/sql/ledger-reads.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { ProblemError } from '../problems/problem.ts'
import { blockersOf, inWords, MOST_NAMED } from './find-blockers.ts'
import { clearPerson } from './sql/clear-person.ts'
import {
  type Blocker,
  beginAttempt,
  blockErasure,
  deleteErasure,
  type Erasure,
  type ErasureSource,
  insertErasure,
  isDeactivatedByStaff,
  lockErasure,
  markChecked,
  markErased,
  readErasure,
  readOpenPayments,
  readOpenRequests,
} from './sql/erasures.ts'

const CLOSE = 'pennywire.ledger.WalletCloseRequested'
/** How long a caller waits for the wallets to close; a worker goes on after that. */
const WAIT_MS = 10_000
const POLL_MS = 100
/**
 * When everything is cleared once more: other gateways keep a person's key and name in memory for a minute, and requests
 * that had begun before write what they write.
 */
export const CHECK_AFTER_MS = 150_000
/** A blocked erasure is tried again. */
const BLOCKED_PAUSE_MS = 60 * 60 * 1_000

export type Progress = { state: 'erased'; at: Date } | { state: 'closing' | 'gone' } | Blocked
type Blocked = { state: 'blocked'; blockers: Blocker[] }

export type ErasePerson = {
  /** What would stand in the way now. */
  findBlockers: (user: User, source: ErasureSource) => Promise<Blocker[]>
  /**
   * Decides that a person is erased, at `dueAt`. Throws ERASURE_BLOCKED with what stands in the way, PERSON_ERASED.
   * True if nothing was decided before.
   */
  decide: (
    erasure: {
      userId: string
      source: ErasureSource
      byUserId: string | null
      reason: Buffer | null
      dueAt: Date
    },
    /** Further records and checks in the same transaction, which has locked the user. */
    also?: (tx: Tx, user: User) => Promise<void>,
  ) => Promise<boolean>
  /** Erases a person who is due, as far as it goes within ten seconds. A worker ends what is left. */
  erase: (userId: string, traceparent: string, signal?: AbortSignal) => Promise<Progress>
  /** Clears once more what a request wrote that had begun before. True if there is nothing left to look at. */
  checkErased: (userId: string, traceparent: string) => Promise<boolean>
}

/** The problem of an erasure that something stands in the way of. */
export const blockedProblem = (blockers: Blocker[]): ProblemError =>
  new ProblemError('ERASURE_BLOCKED', `${blockers.map(inWords).join('; ')}.`, { blockers })

/**
 * Erases persons: closes their empty wallets by the ledger's command, and then, in one transaction, ends sessions and
 * API keys, destroys the person's key, clears their rows and tells it as UserErased. Each part can be repeated: what a
 * gateway leaves that dies, another one ends, and of two at once one waits and finds it done.
 */
export const createErasePerson = (deps: {
  sql: Database
  ledgerRead: Database
  codec: Pick<Codec, 'encode'>
  inTransaction: InTransaction
  announce: Pick<Announce, 'identityEvent'>
  /** Tells a user that the deletion they asked for is due and blocked, in this transaction. */
  tellBlocked: (tx: Tx, userId: string, traceparent: string) => Promise<void>
  /** Sends the ends of sessions to all gateways at once; they also find them in the database within a second. */
  pushEnded: (sessionIds: string[], reason: string) => Promise<void>
  /** Removes the person from this process's memory. */
  forget: (userId: string) => void
  clock: Clock
}): ErasePerson => {
  const { sql, ledgerRead, codec, inTransaction, announce, clock } = deps

  const readFacts = async (at: Database | Tx, user: User, source: ErasureSource) => {
    const [wallets, payments, requests, byStaff] = await Promise.all([
      readWalletsOf(ledgerRead, user.id),
      readOpenPayments(at, user.id, MOST_NAMED),
      readOpenRequests(at, user.id, MOST_NAMED),
      isDeactivatedByStaff(at, user.id),
    ])
    const decided = new Set(requests.length > 0 ? await readDecidedIds(ledgerRead, requests) : [])
    const undecided = requests.filter(id => !decided.has(id))
    const isLookedInto = source === 'self' && byStaff
    const { roles } = user
    return { wallets, blockers: blockersOf({ wallets, payments, requests: undecided, roles, isLookedInto }) }
  }

  const openOf = (wallets: WalletFacts[]) => wallets.filter(({ status }) => status !== 'closed')

  /** Asks the ledger to close the wallets. Repeats are the same commands; what was refused is asked anew. */
  const close = async (erasure: Erasure, wallets: WalletFacts[], traceparent: string): Promise<void> => {
    const { userId, id, attempt } = erasure
    const idOf = (wallet: WalletFacts, at: number) => erasureCloseIdOf(id, wallet.id, at)
    const ids = wallets.map(wallet => idOf(wallet, attempt))
    const refused = attempt > 0 && (await readDecidedIds(ledgerRead, ids)).length > 0
    const next = attempt === 0 || refused ? attempt + 1 : attempt
    await inTransaction(async tx => {
      if (next !== attempt) await beginAttempt(tx, userId, attempt)
      await appendToOutbox(
        tx,
        wallets.map(wallet => {
          const content = { walletId: wallet.id }
          return commandRecord(
            codec,
            CLOSE,
            wallet.id,
            {
              ...{ commandId: idOf(wallet, next), userId, requestedAt: clock.now() },
              ...content,
              fingerprint: fingerprintOfCommand(CLOSE, content),
            },
            traceparent,
          )
        }),
      )
    })
  }

  const block = async ({ userId, source }: Erasure, blockers: Blocker[], traceparent: string) => {
    await inTransaction(async tx => {
      // Staff and operators are answered at once, and decide again.
      if (source !== 'self') return void (await deleteErasure(tx, userId, source))
      if (await blockErasure(tx, userId, blockers, BLOCKED_PAUSE_MS)) {
        await deps.tellBlocked(tx, userId, traceparent)
      }
    })
    return { state: 'blocked' as const, blockers }
  }

  /** The end, in one transaction. Undefined while a wallet is open. */
  const end = async (userId: string, traceparent: string): Promise<Progress | undefined> => {
    const outcome = await inTransaction(async tx => {
      // Lock order: the user first, as everywhere. A request that has locked it ends before, and is seen from here on.
      const [user] = await lockUsers(tx, [userId])
      const erasure = await lockErasure(tx, userId)
      if (!user || !erasure) return { progress: { state: 'gone' as const } }
      if (erasure.erasedAt) return { progress: { state: 'erased' as const, at: erasure.erasedAt } }
      const { wallets, blockers } = await readFacts(tx, user, erasure.source)
      if (blockers.length > 0 || openOf(wallets).length > 0) return {}
      const { source, byUserId, reason } = erasure
      const ended = await endSessions(tx, { userId, reason: ACCOUNT_DISABLED })
      await endApiKeys(tx, announce, { userId, reason: ACCOUNT_DISABLED }, traceparent)
      await clearPerson(tx, userId)
      const at = await markErased(tx, userId, CHECK_AFTER_MS)
      const revoked = { userId, reason: ACCOUNT_DISABLED, byUserId: source === 'self' ? userId : byUserId }
      await appendToOutbox(tx, [
        ...ended.map(sessionId =>
          announce.identityEvent('SessionRevoked', { ...revoked, sessionId }, traceparent),
        ),
        announce.identityEvent('UserErased', { userId, source, byUserId, reason }, traceparent),
      ])
      return { ended, progress: { state: 'erased' as const, at } }
    })
    if (outcome.ended) {
      deps.forget(userId)
      await deps.pushEnded(outcome.ended, ACCOUNT_DISABLED)
    }
    return outcome.progress
  }

  const findBlockers: ErasePerson['findBlockers'] = async (user, source) =>
    (await readFacts(sql, user, source)).blockers

  return {
    findBlockers,

    decide: async (erasure, also) => {
      const { userId } = erasure
      const user = await findUser(sql, userId)
      if (!user) throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
      const known = await readErasure(sql, userId)
      if (known?.erasedAt) throw new ProblemError('PERSON_ERASED', 'id: the person is erased.')
      const blockers = await findBlockers(user, erasure.source)
      if (blockers.length > 0) throw blockedProblem(blockers)
      return inTransaction(async tx => {
        const [locked] = await lockUsers(tx, [userId])
        const isNew = await insertErasure(tx, { ...erasure, id: randomUUID() })
        if (isNew) await also?.(tx, locked!)
        return isNew
      })
    },

    erase: async (userId, traceparent, signal) => {
      const until = clock.elapsed() + WAIT_MS
      let asked = false
      for (;;) {
        const [user, erasure] = await Promise.all([findUser(sql, userId), readErasure(sql, userId)])
        if (!user || !erasure) return { state: 'gone' }
        if (erasure.erasedAt) return { state: 'erased', at: erasure.erasedAt }
        const { wallets, blockers } = await readFacts(sql, user, erasure.source)
        if (blockers.length > 0) return block(erasure, blockers, traceparent)
        const open = openOf(wallets)
        if (open.length === 0) {
          const progress = await end(userId, traceparent)
          if (progress) return progress
        } else if (!asked) {
          await close(erasure, open, traceparent)
          asked = true
        }
        if (clock.elapsed() > until || signal?.aborted) return { state: 'closing' }
        await sleep(clock, POLL_MS, signal)
      }
    },

    checkErased: async (userId, traceparent) => {
      const open = openOf(await readWalletsOf(ledgerRead, userId))
      if (open.length > 0) {
        const erasure = await readErasure(sql, userId)
        if (erasure) await close(erasure, open, traceparent)
        return false
      }
      const ended = await inTransaction(async tx => {
        await lockUsers(tx, [userId])
        const late = await endSessions(tx, { userId, reason: ACCOUNT_DISABLED })
        await endApiKeys(tx, announce, { userId, reason: ACCOUNT_DISABLED }, traceparent)
        await clearPerson(tx, userId)
        await markChecked(tx, userId)
        return late
      })
      await deps.pushEnded(ended, ACCOUNT_DISABLED)
      return true
    },
  }
}
