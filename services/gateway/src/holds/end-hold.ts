import { commandIdOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import { isProblemCode } from '@pennywire/contracts/problems.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import { isAllowed, refuseOwn } from '../access/roles.ts'
import { keyReused } from '../http/idempotency.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { Ask } from '../ledger/ask-ledger.ts'
import type { Outcome } from '../ledger/await-outcome.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import type { KeyClaim, KeyHolder } from '../transfers/sql/key-claims.ts'
import {
  type HoldView,
  openDecided,
  type TransferSubject,
  type TransferView,
  viewHold,
  viewTransfer,
} from '../transfers/transfer-view.ts'

/** The hold to end, its requester, and the key that identifies a repeat. */
export type EndHoldInput = {
  userId: string
  holdId: string
  idempotencyKey: string | null
  traceparent: string
}

export type EndHoldDeps = {
  ask: Ask
  names: Pick<Names, 'namesOf'>
  personKeys: Pick<PersonKeys, 'decryptAll'>
  readDecided: (id: string) => Promise<TransferFacts | undefined>
  claimKey: (claim: KeyClaim) => Promise<KeyHolder>
  clock: Clock
}

export type EndHold = {
  /**
   * Captures a hold for its recipient, `userId`: `readAmount` returns the amount in minor units of the hold's currency,
   * null for all of it. The rest becomes available to the payer again.
   */
  capture: (
    input: EndHoldInput & { idempotencyKey: string; readAmount: (currency: string) => bigint | null },
  ) => Promise<{ transfer: TransferView; replayed: boolean }>
  /** Voids a hold: by its recipient, or by staff who are not a party to it. */
  void: (input: EndHoldInput & { source: 'user' | 'staff' }) => Promise<{ hold: HoldView; replayed: boolean }>
}

type HeldFacts = TransferFacts & {
  hold: NonNullable<TransferFacts['hold']>
  from: NonNullable<TransferFacts['from']>
  to: NonNullable<TransferFacts['to']>
}

const isHeld = (facts: TransferFacts | undefined): facts is HeldFacts =>
  facts !== undefined && facts.hold !== null && facts.from !== null && facts.to !== null

const notFound = () => new ProblemError('HOLD_NOT_FOUND', 'id: there is no such hold of yours.')

/**
 * Ends holds before they expire, by a command to the ledger: the ledger orders it with all commands of the paying
 * wallet, so that of many concurrent attempts exactly one succeeds. Throws the ledger's refusal as a problem.
 */
export const createEndHold = (deps: EndHoldDeps): EndHold => {
  const readHold = async (id: string): Promise<HeldFacts> => {
    const facts = await deps.readDecided(id)
    if (!isHeld(facts)) throw notFound()
    return facts
  }

  /** The hold, for its recipient; HOLD_NOT_FOUND for users who are no party to it. */
  const readForRecipient = async ({ userId, holdId }: EndHoldInput): Promise<HeldFacts> => {
    const facts = await readHold(holdId)
    if (isAllowed(userId, 'owner', [facts.to.userId])) return facts
    if (!isAllowed(userId, 'owner', [facts.from.userId])) throw notFound()
    throw new ProblemError(
      'INSUFFICIENT_PERMISSIONS',
      'id: only the recipient captures the hold or lets it go; it ends by itself in time.',
    )
  }

  /** The hold after the event that ended it. */
  const readEnded = async (holdId: string): Promise<TransferSubject> => {
    const [subject] = await openDecided(deps.personKeys, [await readHold(holdId)])
    return subject!
  }

  return {
    capture: async input => {
      const { hold, from, to, currency } = await readForRecipient(input)
      const amount = input.readAmount(currency)
      const type = 'pennywire.ledger.HoldCaptureRequested'
      const commandId = transferIdOf(input.userId, input.idempotencyKey)
      const fingerprint = fingerprintOfCommand(type, {
        holdId: input.holdId,
        amount: amount?.toString() ?? null,
      })
      if ((await deps.claimKey({ id: commandId, fingerprint, recipientId: null })) === 'another') {
        throw keyReused()
      }
      const outcome = await deps.ask(
        type,
        from.walletId,
        {
          commandId,
          holdId: input.holdId,
          walletId: from.walletId,
          toWalletId: to.walletId,
          userId: input.userId,
          source: 'user',
          amountMinor: amount,
          currency,
          fingerprint,
          requestedAt: deps.clock.now(),
        },
        input.traceparent,
      )
      if (outcome.type !== 'pennywire.ledger.TransferCompleted') throw refusal(outcome, input)
      const transfer = await viewTransfer(deps.names, input.userId, await readEnded(input.holdId))
      // If the hold had already ended, only a repeat is answered with success.
      return { transfer, replayed: hold.status !== 'active' }
    },

    void: async input => {
      const { source, userId, holdId } = input
      const facts = source === 'user' ? await readForRecipient(input) : await readHold(holdId)
      const { hold, from, to } = facts
      if (source === 'staff') refuseOwn(userId, [from.userId, to.userId], 'a hold')
      const type = 'pennywire.ledger.HoldVoidRequested'
      const outcome = await deps.ask(
        type,
        from.walletId,
        {
          // No idempotency key contains a space: without a key, every repeat is the same request.
          commandId: commandIdOf(userId, input.idempotencyKey ?? `void ${holdId}`),
          holdId,
          walletId: from.walletId,
          toWalletId: to.walletId,
          userId,
          source,
          fingerprint: fingerprintOfCommand(type, { holdId, source }),
          requestedAt: deps.clock.now(),
        },
        input.traceparent,
      )
      if (outcome.type !== 'pennywire.ledger.HoldEnded') throw refusal(outcome, input)
      const ended = await readEnded(holdId)
      return { hold: await viewHold(deps.names, userId, ended), replayed: hold.status !== 'active' }
    },
  }
}

/** The ledger stores its refusal under the command id, so the refusal is final. */
const refusal = (outcome: Outcome, { holdId }: EndHoldInput): Error => {
  if (outcome.type !== 'pennywire.ledger.CommandRefused') return keyReused()
  const { code, detail } = outcome.value
  if (code === 'IDEMPOTENCY_KEY_REUSED') return keyReused()
  return new ProblemError(isProblemCode(code) ? code : 'INTERNAL_ERROR', detail, {
    holdId,
    final: true,
    retryable: false,
  })
}
