import { randomUUID } from 'node:crypto'
import { commandIdOf } from '@pennywire/contracts/ids.ts'
import { isProblemCode } from '@pennywire/contracts/problems.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { Ask } from '../ledger/ask-ledger.ts'
import type { Outcome } from '../ledger/await-outcome.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import { FREEZE_REASON, WALLET_LABEL } from './wallet-view.ts'

/** A change of a user's wallet, requested by its owner (`self`) or by staff. */
export type ChangeInput = {
  wallet: WalletFacts
  /** The requester. */
  userId: string
  source: 'self' | 'staff'
  /** Null: each request is a new one. */
  idempotencyKey: string | null
  traceparent: string
}

export type ChangeWalletDeps = {
  ask: Ask
  personKeys: Pick<PersonKeys, 'encryptFor'>
  readWallet: (id: string) => Promise<WalletFacts | undefined>
  clock: Clock
}

/** Each resolves with the wallet after the change, and throws the ledger's refusal as a problem. */
export type ChangeWallet = {
  freeze: (input: ChangeInput & { reason: string | null }) => Promise<WalletFacts>
  unfreeze: (input: ChangeInput & { reason: string | null }) => Promise<WalletFacts>
  close: (input: ChangeInput) => Promise<WalletFacts>
  /** Null removes the name. */
  rename: (input: ChangeInput & { label: string | null }) => Promise<WalletFacts>
}

/**
 * Freezes, unfreezes, closes and renames wallets by a command: the ledger orders it with everything else that happens
 * to the wallet, so that after a 200 nothing leaves a frozen wallet and nothing enters a closed one.
 */
export const createChangeWallet = (deps: ChangeWalletDeps): ChangeWallet => {
  const headOf = ({ wallet, userId, idempotencyKey }: ChangeInput) => ({
    // Without a key a repeat is a new request. That is safe: a state is reached once, however often it is requested.
    commandId: idempotencyKey === null ? randomUUID() : commandIdOf(userId, idempotencyKey),
    walletId: wallet.id,
    userId,
    requestedAt: deps.clock.now(),
  })

  const freezeOf = async (
    type: 'pennywire.ledger.WalletFreezeRequested' | 'pennywire.ledger.WalletUnfreezeRequested',
    input: ChangeInput & { reason: string | null },
  ) => {
    const { wallet, source, reason } = input
    return deps.ask(
      type,
      wallet.id,
      {
        ...headOf(input),
        source,
        reason:
          reason === null ? null : await deps.personKeys.encryptFor(wallet.userId!, reason, FREEZE_REASON),
        fingerprint: fingerprintOfCommand(type, { walletId: wallet.id, source, reason }),
      },
      input.traceparent,
    )
  }

  const answer = async (
    { wallet, idempotencyKey }: ChangeInput,
    outcome: Outcome,
    hoped: Outcome['type'],
  ): Promise<WalletFacts> => {
    if (outcome.type === 'pennywire.ledger.CommandRefused') {
      throw refusalProblem(outcome.value, idempotencyKey !== null)
    }
    if (outcome.type !== hoped) throw new Error(`${hoped} was asked for and ${outcome.type} answered`)
    return (await deps.readWallet(wallet.id))!
  }

  return {
    freeze: async input =>
      answer(
        input,
        await freezeOf('pennywire.ledger.WalletFreezeRequested', input),
        'pennywire.ledger.WalletFrozen',
      ),
    unfreeze: async input =>
      answer(
        input,
        await freezeOf('pennywire.ledger.WalletUnfreezeRequested', input),
        'pennywire.ledger.WalletUnfrozen',
      ),
    close: async input => {
      const type = 'pennywire.ledger.WalletCloseRequested'
      const fingerprint = fingerprintOfCommand(type, { walletId: input.wallet.id })
      const outcome = await deps.ask(
        type,
        input.wallet.id,
        { ...headOf(input), fingerprint },
        input.traceparent,
      )
      return answer(input, outcome, 'pennywire.ledger.WalletClosed')
    },
    rename: async input => {
      const type = 'pennywire.ledger.WalletRenameRequested'
      const { wallet, label } = input
      const outcome = await deps.ask(
        type,
        wallet.id,
        {
          ...headOf(input),
          label:
            label === null ? null : await deps.personKeys.encryptFor(wallet.userId!, label, WALLET_LABEL),
          fingerprint: fingerprintOfCommand(type, { walletId: wallet.id, label }),
        },
        input.traceparent,
      )
      return answer(input, outcome, 'pennywire.ledger.WalletRenamed')
    },
  }
}

/** The ledger stores a refusal under the command id: final only for a client that chose that id by a key. */
const refusalProblem = ({ code, detail }: { code: string; detail: string }, final: boolean): ProblemError =>
  new ProblemError(isProblemCode(code) ? code : 'INTERNAL_ERROR', detail, {
    final,
    ...(final ? { retryable: false } : {}),
  })
