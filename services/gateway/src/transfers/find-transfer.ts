import { idsOfReference, transferIdOf } from '@pennywire/contracts/ids.ts'
import { isAllowed } from '../access/roles.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { TransferFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import type { PendingRequest } from './sql/pending-requests.ts'
import {
  type HoldView,
  openDecided,
  openMethods,
  openTexts,
  type SealedMethod,
  type TransferSubject,
  type TransferView,
  viewHold,
  viewTransfer,
} from './transfer-view.ts'

/** A deposit or withdrawal, and what it is while it is not booked, with its wallet. */
export type PaymentFound = {
  id: string
  kind: 'deposit' | 'withdrawal'
  userId: string
  walletId: string
  amount: bigint
  currency: string
  requestedAt: Date
  failed: boolean
  /** Nothing is left to do. */
  done: boolean
  subject: (wallet: WalletFacts) => TransferSubject
}

export type FindTransferDeps = {
  names: Names
  personKeys: PersonKeys
  readDecidedBetween: (first: string, last: string) => Promise<TransferFacts[]>
  readPendingBetween: (first: string, last: string) => Promise<PendingRequest[]>
  /** Payments that are not yet transfers. */
  readPaymentsBetween: (first: string, last: string) => Promise<PaymentFound[]>
  readMethods: (paymentIds: string[]) => Promise<SealedMethod[]>
  readHoldEndedBy: (commandId: string) => Promise<string | undefined>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
}

export type FindTransfer = {
  byId: (caller: string, id: string) => Promise<TransferView>
  byReference: (caller: string, reference: string) => Promise<TransferView>
  byIdempotencyKey: (caller: string, key: string) => Promise<TransferView>
  /** A hold, active or ended, or the request for one. */
  hold: (caller: string, id: string) => Promise<HoldView>
  /** For staff: anybody's, by a range of ids; none, one, or by an astronomic chance more. */
  anybodys: (first: string, last: string) => Promise<TransferSubject[]>
}

const partiesOf = ({ userId, from, to }: TransferFacts) => [userId, from?.userId, to?.userId]

/** Requests that are not decided, with their parties and texts. */
export const openRequests = async (
  deps: Pick<FindTransferDeps, 'personKeys' | 'readWallets'>,
  requests: PendingRequest[],
): Promise<TransferSubject[]> => {
  const ids = requests.flatMap(({ fromWallet, toWallet }) => [fromWallet, toWallet])
  const wallets = await deps.readWallets(ids.filter(id => id !== null))
  const party = (id: string | null) => {
    const wallet = wallets.find(wallet => wallet.id === id)
    return wallet
      ? { walletId: wallet.id, userId: wallet.userId, code: wallet.code, balanceAfter: null }
      : null
  }
  const texts = await openTexts(deps.personKeys, requests)
  return requests.map((request, index) => ({
    id: request.transferId,
    type: request.type,
    status: 'pending',
    userId: request.userId,
    from: party(request.fromWallet),
    to: party(request.toWallet),
    amount: request.amount,
    currency: request.currency,
    ...texts[index]!,
    requestedAt: request.requestedAt,
    decidedAt: null,
    rejection: null,
  }))
}

/**
 * Finds one transfer for one of its parties: the ledger's decided one first, else the one that waits for a decision.
 * Another user's transfer is answered like one that does not exist.
 */
export const createFindTransfer = (deps: FindTransferDeps): FindTransfer => {
  const findFor = async (
    mayRead: (parties: Array<string | null | undefined>) => boolean,
    first: string,
    last: string,
  ): Promise<TransferSubject[]> => {
    const decided = (await deps.readDecidedBetween(first, last)).filter(facts => mayRead(partiesOf(facts)))
    if (decided.length > 0) return openDecided(deps.personKeys, decided)

    const payments = (await deps.readPaymentsBetween(first, last)).filter(({ userId }) => mayRead([userId]))
    if (payments.length > 0) {
      const wallets = await deps.readWallets(payments.map(({ walletId }) => walletId))
      return payments.map(({ walletId, subject }) => subject(wallets.find(({ id }) => id === walletId)!))
    }
    const pending = (await deps.readPendingBetween(first, last)).filter(({ userId }) => mayRead([userId]))
    return pending.length > 0 ? openRequests(deps, pending) : []
  }
  const find = async (caller: string, first: string, last: string): Promise<TransferSubject | undefined> =>
    (await findFor(parties => isAllowed(caller, 'owner', parties), first, last))[0]

  const transfer = async (caller: string, first: string, last = first): Promise<TransferView> => {
    const found = await find(caller, first, last)
    if (!found) throw new ProblemError('TRANSFER_NOT_FOUND', 'There is no such transfer of yours.')
    const [told] = await openMethods(deps, [found])
    return viewTransfer(deps.names, caller, told!)
  }

  return {
    anybodys: (first, last) => findFor(() => true, first, last),
    byId: transfer,
    byReference: async (caller, reference) => {
      const ids = idsOfReference(reference)
      if (!ids) throw new ProblemError('TRANSFER_NOT_FOUND', 'There is no such transfer of yours.')
      return transfer(caller, ids.first, ids.last)
    },
    byIdempotencyKey: async (caller, key) => {
      const id = transferIdOf(caller, key)
      // The key of a capture finds the transfer that the hold became.
      return transfer(caller, (await deps.readHoldEndedBy(id)) ?? id)
    },
    hold: async (caller, id) => {
      const found = await find(caller, id, id)
      if (!found || (found.type !== 'hold' && !found.hold)) {
        throw new ProblemError('HOLD_NOT_FOUND', 'id: there is no such hold of yours.')
      }
      return viewHold(deps.names, caller, found)
    },
  }
}
