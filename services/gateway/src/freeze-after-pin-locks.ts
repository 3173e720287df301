import { setTimeout as sleep } from 'node:timers/promises'
import { pinFreezeIdOf } from '@pennywire/contracts/ids.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope, type OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { fingerprintOfCommand } from './fingerprint.ts'
import type { InTransaction } from './in-transaction.ts'
import type { WalletFacts } from './sql/ledger-reads.ts'
import { appendToOutbox } from './sql/outbox.ts'
import { type DuePinFreeze, settlePinFreeze, takeDuePinFreeze } from './sql/pins.ts'

/** Well before a thief has found the next thing to try; the PIN itself is locked already. */
const POLL_MS = 1_000
const TYPE = 'pennywire.ledger.WalletFreezeRequested'

export type FreezeAfterPinLocksParts = {
  inTransaction: InTransaction
  codec: Pick<Codec, 'encode'>
  logger: Logger
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  now: () => number
}

/**
 * Freezes all open wallets (source `pin`) of whoever's PIN was locked too often. The lock and the wish are written in
 * one transaction (`pin_locks.freeze_due`), so that no crash comes between them, and no ledger that is away holds up
 * the lock. This check, repeated by every gateway, turns the wish into commands: in one transaction they go into the
 * outbox and the wish is done. Their ids are derived from lock and wallet, so that any number of times is once.
 */
export const startFreezeAfterPinLocks = (parts: FreezeAfterPinLocksParts): { stop: () => Promise<void> } => {
  const stopped = new AbortController()

  const work = async () => {
    while (!stopped.signal.aborted) {
      try {
        while (!stopped.signal.aborted && (await freezeForOne(parts))) {}
      } catch (error) {
        parts.logger.error({ err: error }, 'wallets could not be frozen after PIN locks; trying again')
      }
      await sleep(POLL_MS, undefined, { signal: stopped.signal }).catch(() => {})
    }
  }

  const working = work()
  return {
    stop: async () => {
      stopped.abort()
      await working
    },
  }
}

/** Asks for the freezes that one lock is due; false where there is none. */
const freezeForOne = ({ inTransaction, codec, readWalletsOf, logger, now }: FreezeAfterPinLocksParts) =>
  inTransaction(async tx => {
    const due = await takeDuePinFreeze(tx)
    if (!due) return false
    const open = (await readWalletsOf(due.userId)).filter(({ status }) => status !== 'closed')
    await appendToOutbox(
      tx,
      open.map(wallet => freezeCommand(codec, due, wallet, now())),
    )
    await settlePinFreeze(tx, due)
    logger.warn({ userId: due.userId, wallets: open.length }, 'PIN locked too often: wallets are frozen')
    return true
  })

const freezeCommand = (
  codec: Pick<Codec, 'encode'>,
  { userId, lockedUntil }: DuePinFreeze,
  wallet: WalletFacts,
  requestedAt: number,
): OutgoingRecord => {
  const commandId = pinFreezeIdOf(userId, lockedUntil.toISOString(), wallet.id)
  const content = { walletId: wallet.id, source: 'pin', reason: null }
  return {
    topic: 'ledger.commands',
    key: wallet.id,
    value: codec.encode(TYPE, {
      commandId,
      userId,
      ...content,
      fingerprint: fingerprintOfCommand(TYPE, content),
      requestedAt,
    }),
    headers: envelope({
      id: commandId,
      type: TYPE,
      source: 'gateway',
      time: requestedAt,
      subject: commandId,
    }),
  }
}
