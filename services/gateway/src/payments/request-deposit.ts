import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { Requester } from '../access/requester.ts'
import { keyReused, rejectionProblem } from '../http/idempotency.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { askUntilAnswered, type Outcomes } from '../ledger/await-outcome.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import type { TransferFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import { refuseAboveKey, type TransferAnswer } from '../transfers/request-transfer.ts'
import {
  METHOD_PURPOSE,
  openDecided,
  rejectionOf,
  type TransferSubject,
  viewTransfer,
} from '../transfers/transfer-view.ts'
import { applyProviderState, orderPayment, type PaymentDeps, refusalOf } from './payment.ts'
import type { NewPayment, Payment } from './sql/payments.ts'

export type DepositInput = {
  user: Requester
  idempotencyKey: string
  walletId: string
  amount: bigint
  currency: string
  /** The source of the money, for the provider; the sandbox recognises magic values. */
  source: string
  waitMs: number
}

export type DepositDeps = PaymentDeps & {
  /** Throws 503 if the request would only wait: called before anything is stored or ordered. */
  admit: (walletId: string) => void
  outcomes: Pick<Outcomes, 'wait'>
  names: Names
  personKeys: PersonKeys
  readWallet: (userId: string, walletId: string) => Promise<WalletFacts | undefined>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  isPending: (transferId: string) => Promise<boolean>
  /** Checks the payment against the wallet's limits and writes it, or returns the one with its id. */
  writeDeposit: (payment: NewPayment) => Promise<Payment>
  /** How long a request is valid. */
  expiresAfterMs: number
}

/**
 * Takes a deposit: stores it, orders it from the provider, and waits until the ledger books the confirmed payment.
 * Until then the user has no money, and the same key refers to the same payment.
 */
export const createRequestDeposit =
  (deps: DepositDeps) =>
  async (input: DepositInput): Promise<TransferAnswer> => {
    const { user, amount, currency } = input
    const id = transferIdOf(user.userId, input.idempotencyKey)
    const fingerprint = fingerprintOf({
      type: 'deposit',
      fromWalletId: null,
      toWalletId: input.walletId,
      amount,
      currency,
      note: null,
      metadata: null,
      method: input.source,
    })
    const decided = await deps.readDecided(id)
    if (decided) return answerBooked(deps, user.userId, decided, fingerprint, input.source, true)
    if (await deps.isPending(id)) throw keyReused()
    // A hold with this id belongs to another request.
    const refusal = refusalOf((await deps.readLedgerStatuses([id])).get(id), fingerprint)
    if (refusal?.failureCode === 'IDEMPOTENCY_KEY_REUSED') throw keyReused()
    // The command first: a payment's row is older than its command, so that a repeat of this request finds both.
    const isCommand = await deps.isCommand(id)
    const earlier = await deps.readPayment(id)
    if (isCommand && !earlier) throw keyReused()
    if (earlier && !earlier.fingerprint.equals(fingerprint)) throw keyReused()
    if (earlier?.status === 'failed') throw paymentFailed(earlier, true)

    deps.admit(input.walletId)

    const wallet = await deps.readWallet(user.userId, input.walletId)
    if (!wallet) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
    // A payment that the provider has taken continues, even if the wallet was closed or frozen since.
    const ordered = earlier !== undefined && earlier.status !== 'created'
    const payment = ordered ? earlier : await write(deps, input, wallet, id, fingerprint)
    if (!payment.fingerprint.equals(fingerprint)) throw keyReused()
    if (payment.status === 'failed') throw paymentFailed(payment, true)

    const waiter = deps.outcomes.wait(id, input.waitMs, fingerprint)
    try {
      if (payment.status === 'created' || payment.status === 'ordering') {
        await orderPayment(deps, payment)
      }
      // The provider's result may have gone to another gateway, and a refusal by the provider has no event.
      const answer = await askUntilAnswered(
        [waiter],
        async () => {
          const facts = await deps.readDecided(id)
          if (facts) return answerBooked(deps, user.userId, facts, fingerprint, input.source, false)
          const now = await deps.readPayment(id)
          if (now?.status === 'failed') throw paymentFailed(now, false)
          return undefined
        },
        deps.clock,
      )
      if (answer) return answer
    } finally {
      waiter.leave()
    }
    const subject = { ...subjectOfPayment(payment, wallet), method: input.source }
    const transfer = await viewTransfer(deps.names, user.userId, subject)
    return { status: 202, transfer, replayed: false }
  }

/**
 * Stores a payment that may be ordered, or returns the one with the id. Throws if the wallet cannot receive money now.
 */
const write = async (
  deps: DepositDeps,
  { user, amount, currency, source }: DepositInput,
  wallet: WalletFacts,
  id: string,
  fingerprint: Buffer,
): Promise<Payment> => {
  if (wallet.currency !== currency) {
    throw new ProblemError('CURRENCY_MISMATCH', `currency: the wallet holds ${wallet.currency}`, {
      final: false,
    })
  }
  if (wallet.status === 'closed')
    throw new ProblemError('WALLET_CLOSED', 'walletId: the wallet is closed', { final: false })
  // Refused before any money arrives, so that it need not wait in suspense.
  if (wallet.freezeSource === 'staff') {
    throw new ProblemError('RECIPIENT_UNAVAILABLE', 'walletId: staff froze the wallet; it takes no money', {
      final: false,
    })
  }

  // Refused before any money arrives, as well.
  if (wallet.balance + amount > MAX_MINOR) {
    throw new ProblemError('BALANCE_LIMIT', 'amount: the balance would pass the largest possible', {
      final: false,
    })
  }

  if (user.apiKey) refuseAboveKey(amount, currency, [user.apiKey.maxAmount])

  const requestedAt = deps.clock.now()
  return deps.writeDeposit({
    id,
    kind: 'deposit',
    userId: user.userId,
    walletId: wallet.id,
    amount,
    currency,
    method: await deps.personKeys.encryptFor(user.userId, source, METHOD_PURPOSE),
    fingerprint,
    authenticatedBy: null,
    authenticatedAt: null,
    requestedAt: new Date(requestedAt),
    expiresAt: new Date(requestedAt + deps.expiresAfterMs),
  })
}

/** Books the result that a provider's callback contains. Idempotent; throws if the provider must send it again. */
export const createHandleCallback =
  (deps: PaymentDeps) =>
  async (signature: string | undefined, body: string, traceparent: string): Promise<void> => {
    const callback = deps.provider.readCallback(signature, body)
    const payment = await deps.readPayment(callback.id)
    if (!payment) throw new ProblemError('PAYMENT_NOT_FOUND', 'id: there is no such payment')
    await applyProviderState(deps, payment, callback, traceparent)
  }

/** The answer to a payment's owner, from the ledger's decision. */
export const answerBooked = async (
  deps: Pick<DepositDeps, 'names' | 'personKeys'>,
  caller: string,
  facts: TransferFacts,
  fingerprint: Buffer,
  method: string,
  replayed: boolean,
): Promise<TransferAnswer> => {
  if (!facts.fingerprint.equals(fingerprint)) throw keyReused()
  const rejection = rejectionOf(facts)
  if (rejection) {
    const { code, detail, ...members } = rejection
    throw rejectionProblem(facts.id, code, detail, replayed, members)
  }
  const [subject] = await openDecided(deps.personKeys, [facts])
  const transfer = await viewTransfer(deps.names, caller, { ...subject!, method })
  return { status: transfer.status === 'in_suspense' ? 202 : 201, transfer, replayed }
}

const failureOf = ({ failureCode, failureReason }: Payment) =>
  failureCode === null || failureCode === 'PAYMENT_FAILED'
    ? `The payment provider refused the payment${failureReason ? `: ${failureReason}` : '.'}`
    : (failureReason ?? '')

/** A failed payment as a problem: final. */
export const paymentFailed = (payment: Payment, replayed: boolean): ProblemError =>
  rejectionProblem(payment.id, payment.failureCode ?? 'PAYMENT_FAILED', failureOf(payment), replayed)

/** A payment that the ledger has not booked, as a transfer: pending, or rejected if it failed. */
export const subjectOfPayment = (
  payment: Payment,
  wallet: Pick<WalletFacts, 'id' | 'userId' | 'code'>,
): TransferSubject => {
  const own = { walletId: wallet.id, userId: wallet.userId, code: wallet.code, balanceAfter: null }
  return {
    id: payment.id,
    type: payment.kind,
    status: payment.status === 'failed' ? 'rejected' : 'pending',
    userId: payment.userId,
    from: payment.kind === 'withdrawal' ? own : null,
    to: payment.kind === 'deposit' ? own : null,
    amount: payment.amount,
    currency: payment.currency,
    note: null,
    metadata: null,
    requestedAt: payment.requestedAt,
    decidedAt: null,
    rejection:
      payment.status === 'failed'
        ? { code: payment.failureCode ?? 'PAYMENT_FAILED', detail: failureOf(payment) }
        : null,
  }
}
