import { pinFreezeIdOf, pinUnfreezeIdOf } from '@pennywire/contracts/ids.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { type DuePinUnfreeze, settlePinUnfreeze, takeDuePinUnfreeze } from '../identity/pin/sql/pin-resets.ts'
import {
  type DuePinFreeze,
  settlePinFreeze,
  takeDuePinFreeze,
  wasPinLockedWithin,
} from '../identity/pin/sql/pins.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'

/** Well before a thief finds the next thing to try; the PIN itself is locked already. */
const POLL_MS = 1_000
const FREEZE = 'pennywire.ledger.WalletFreezeRequested'
const UNFREEZE = 'pennywire.ledger.WalletUnfreezeRequested'
/** A freeze that was requested longer ago than this was decided long ago. */
const FREEZE_DECIDED_HOURS = 24

export type FreezeAfterPinLocksDeps = {
  inTransaction: InTransaction
  codec: Pick<Codec, 'encode'>
  logger: Logger
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  clock: Clock
}

/**
 * Freezes all open wallets (source `pin`) of a user whose PIN was locked too often. The lock and `pin_locks.freeze_due`
 * are written in one transaction, so that no crash separates them, and an unavailable ledger does not delay the lock.
 * Every gateway repeats this check: in one transaction it appends the commands to the outbox and marks the freeze as
 * settled. The command ids are derived from lock and wallet, so that any number of runs has the effect of one. Likewise
 * it lifts those freezes, and no others, once the owner has set a new PIN by a mailed code.
 */
export const startFreezeAfterPinLocks = (deps: FreezeAfterPinLocksDeps): { stop: () => Promise<void> } =>
  repeat({
    clock: deps.clock,
    everyMs: POLL_MS,
    work: async () => (await freezeForOne(deps)) || (await unfreezeForOne(deps)),
    onError: error =>
      deps.logger.error(
        { err: error },
        'wallets could not be frozen or unfrozen after PIN locks; trying again',
      ),
  })

/** Requests the freezes that are due for one lock; false if none is due. */
const freezeForOne = ({ inTransaction, codec, readWalletsOf, logger, clock }: FreezeAfterPinLocksDeps) =>
  inTransaction(async tx => {
    const due = await takeDuePinFreeze(tx)
    if (!due) return false
    const open = (await readWalletsOf(due.userId)).filter(({ status }) => status !== 'closed')
    await appendToOutbox(
      tx,
      open.map(wallet => freezeCommand(codec, due, wallet, clock.now())),
    )
    await settlePinFreeze(tx, due)
    logger.warn({ userId: due.userId, wallets: open.length }, 'PIN locked too often: wallets are frozen')
    return true
  })

/** Requests the unfreezes that are due for one new PIN; false if none is due. */
const unfreezeForOne = ({ inTransaction, codec, readWalletsOf, logger, clock }: FreezeAfterPinLocksDeps) =>
  inTransaction(async tx => {
    const due = await takeDuePinUnfreeze(tx)
    if (!due) return false
    // A recent freeze may be decided after the wallets are read, so active wallets get an unfreeze, too. The freeze
    // command is older, so the ledger decides it first. Without a freeze, the ledger refuses the unfreeze.
    const maybeOnItsWay = await wasPinLockedWithin(tx, due.userId, FREEZE_DECIDED_HOURS)
    const frozen = (await readWalletsOf(due.userId)).filter(
      ({ status, freezeSource }) => freezeSource === 'pin' || (maybeOnItsWay && status === 'active'),
    )
    await appendToOutbox(
      tx,
      frozen.map(wallet => unfreezeCommand(codec, due, wallet, clock.now())),
    )
    await settlePinUnfreeze(tx, due.userId)
    logger.info(
      { userId: due.userId, wallets: frozen.length },
      'new PIN: freezes after wrong PINs are lifted',
    )
    return true
  })

const freezeCommand = (
  codec: Pick<Codec, 'encode'>,
  { userId, lockedUntil }: DuePinFreeze,
  wallet: WalletFacts,
  requestedAt: number,
): OutgoingRecord => {
  const commandId = pinFreezeIdOf(userId, lockedUntil.toISOString(), wallet.id)
  return command(codec, FREEZE, { commandId, userId, walletId: wallet.id, requestedAt })
}

const unfreezeCommand = (
  codec: Pick<Codec, 'encode'>,
  { userId, id }: DuePinUnfreeze,
  wallet: WalletFacts,
  requestedAt: number,
): OutgoingRecord => {
  const commandId = pinUnfreezeIdOf(userId, id, wallet.id)
  return command(codec, UNFREEZE, { commandId, userId, walletId: wallet.id, requestedAt })
}

const command = (
  codec: Pick<Codec, 'encode'>,
  type: typeof FREEZE | typeof UNFREEZE,
  head: { commandId: string; userId: string; walletId: string; requestedAt: number },
): OutgoingRecord => {
  const { walletId } = head
  const content = { walletId, source: 'pin' as const, reason: null }
  return commandRecord(codec, type, walletId, {
    ...head,
    ...content,
    fingerprint: fingerprintOfCommand(type, content),
  })
}
