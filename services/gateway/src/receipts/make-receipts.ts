import {
  type CompletedTransfer,
  describeReceipt,
  type Receipt,
  sideOfUser,
} from '@pennywire/documents/describe-receipt.ts'
import type { ReceiptCodes } from '@pennywire/documents/receipt-code.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import type { WaitingReceipt } from './sql/receipts.ts'

const made = counter(
  'gateway_receipts_total',
  'Receipts by the outcome of each attempt: made, postponed, failed',
  ['outcome'],
)

/** How long a receipt may wait that another gateway has taken in, or whose pause is over. */
const POLL_MS = 1_000
/** Claimed at a time; the thread renders one after the other. */
const AT_ONCE = 4
/** Longer than a batch takes, each up to its time limit, so that no two gateways render one receipt. */
const CLAIM_MS = 120_000
const FIRST_PAUSE_MS = 1_000
const MAX_ATTEMPTS = 5
/** What is stored is text under the person's key. */
export const RECEIPT_PURPOSE = 'receipt'

export type MakeReceiptsDeps = {
  claim: (limit: number, claimMs: number) => Promise<WaitingReceipt[]>
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  names: Pick<Names, 'namesOf'>
  codes: Pick<ReceiptCodes, 'codeOf'>
  publicUrl: string
  /** In a worker thread. */
  render: (receipt: Receipt, userId: string) => Promise<Uint8Array>
  personKeys: Pick<PersonKeys, 'encryptFor'>
  store: (receipt: WaitingReceipt, pdf: Buffer) => Promise<void>
  postpone: (receipt: WaitingReceipt, pauseMs: number) => Promise<void>
  drop: (receipt: WaitingReceipt) => Promise<void>
  clock: Clock
  logger: Logger
}

/** The facts of a completed transfer that stand on its receipt; undefined if it has not completed. */
export const completedOf = ({
  id,
  type,
  status,
  amount,
  currency,
  decidedAt,
  from,
  to,
}: TransferFacts): CompletedTransfer | undefined =>
  status === 'completed' ? { id, type, amount, currency, completedAt: decidedAt, from, to } : undefined

/**
 * Makes the receipts that wait, in a worker thread and apart from the requests for them. Every gateway does so; one
 * gateway has a receipt at a time. A receipt that fails again and again is dropped and logged.
 */
export const startMakingReceipts = (deps: MakeReceiptsDeps): Repeated => {
  const { names, codes, publicUrl, clock, logger } = deps

  const make = async (waiting: WaitingReceipt, transfer: CompletedTransfer | undefined): Promise<void> => {
    const { userId, language } = waiting
    const side = transfer && sideOfUser(transfer, userId)
    if (!transfer || !side) throw new Error('the ledger has no such completed transfer of the user')
    const known = await names.namesOf(
      [transfer.from?.userId, transfer.to?.userId].filter(id => id !== null && id !== undefined),
    )
    const fullNames = new Map([...known].map(([id, { fullName }]) => [id, fullName]))
    const receipt = describeReceipt({ transfer, userId, side, names: fullNames, language, codes, publicUrl })
    const pdf = await deps.render(receipt, userId)
    const text = Buffer.from(pdf).toString('base64')
    await deps.store(waiting, await deps.personKeys.encryptFor(userId, text, RECEIPT_PURPOSE))
    made.inc({ outcome: 'made' })
  }

  const settle = async (waiting: WaitingReceipt, error: unknown): Promise<void> => {
    const { transferId, attempts } = waiting
    if (attempts < MAX_ATTEMPTS) {
      made.inc({ outcome: 'postponed' })
      logger.warn({ err: error, transferId, attempts }, 'a receipt was not made; trying again')
      await deps.postpone(waiting, FIRST_PAUSE_MS * 2 ** (attempts - 1))
    } else {
      made.inc({ outcome: 'failed' })
      logger.error({ err: error, transferId, attempts }, 'a receipt cannot be made')
      await deps.drop(waiting)
    }
  }

  return repeat({
    clock,
    everyMs: POLL_MS,
    work: async () => {
      const claimed = await deps.claim(AT_ONCE, CLAIM_MS)
      if (claimed.length === 0) return false
      const facts = await deps.readTransfers([...new Set(claimed.map(({ transferId }) => transferId))])
      const transfers = new Map(facts.map(fact => [fact.id, completedOf(fact)]))
      const outcomes = await Promise.allSettled(
        claimed.map(waiting => make(waiting, transfers.get(waiting.transferId))),
      )
      for (const [index, outcome] of outcomes.entries())
        if (outcome.status === 'rejected') await settle(claimed[index]!, outcome.reason)
      return claimed.length === AT_ONCE
    },
    onError: error => logger.warn({ err: error }, 'receipts that wait were not made; trying again'),
  })
}
