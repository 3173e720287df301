import { randomUUID } from 'node:crypto'
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Outcomes } from '../ledger/await-outcome.ts'
import { commandRecord } from '../ledger/command-record.ts'
import type { PublishCommand } from '../ledger/publish-command.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'

export type OpenWalletDeps = {
  codec: Pick<Codec, 'encode'>
  /** Throws 503 if the request would only wait. */
  admit: (walletId: string) => void
  publishCommand: PublishCommand
  outcomes: Pick<Outcomes, 'wait'>
  readWalletCounts: (userId: string, currency: string) => Promise<{ closed: number; openId: string | null }>
  readWalletOf: (userId: string, id: string) => Promise<WalletFacts | undefined>
  clock: Clock
  /** Tests only: in place of random ones. */
  newCommandId?: () => string
}

/** How long a request waits for the wallet to open; a repeat is safe. */
const WAIT_MS = 10_000

/**
 * Opens a user's wallet in a currency, of which one may be open at a time. Throws WALLET_ALREADY_EXISTS, and 503 if the
 * outcome is unknown in time: a retry is safe.
 */
export const createOpenWallet =
  (deps: OpenWalletDeps) =>
  async (input: { userId: string; currency: string; traceparent: string }): Promise<WalletFacts> => {
    const { userId, currency, traceparent } = input
    const exists = (walletId: string) =>
      new ProblemError('WALLET_ALREADY_EXISTS', `currency: you have a wallet in ${currency} already`, {
        walletId,
      })
    const { closed, openId } = await deps.readWalletCounts(userId, currency)
    if (openId !== null) throw exists(openId)
    // Derived, so that repeats and concurrent requests use one partition, where the first opens the wallet.
    const walletId = walletIdOf(userId, currency, closed)
    deps.admit(walletId)
    // A new id for each request: concurrent requests each get their own outcome, and a refusal of one applies to no
    // later one.
    const commandId = (deps.newCommandId ?? randomUUID)()
    const waiter = deps.outcomes.wait(commandId, WAIT_MS)
    try {
      const requestedAt = deps.clock.now()
      const command = { commandId, walletId, userId, currency, requestedAt, tier: 'unverified' as const }
      await deps.publishCommand(
        commandRecord(deps.codec, 'pennywire.ledger.WalletOpenRequested', walletId, command, traceparent),
      )
      const outcome = await waiter.outcome
      if (outcome?.type === 'pennywire.ledger.CommandRefused') throw exists(walletId)
      const wallet = await deps.readWalletOf(userId, walletId)
      if (wallet) return wallet
      throw new ProblemError('SERVICE_UNAVAILABLE', 'The wallet is not open yet. Asking again is safe.')
    } finally {
      waiter.leave()
    }
  }
