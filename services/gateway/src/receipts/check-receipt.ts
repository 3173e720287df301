import { idsOfReference, referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { ReceiptCodes, ReceiptSide } from '@pennywire/documents/receipt-code.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { completedOf } from './make-receipts.ts'

/** What an authentic receipt must say; names are left out, and all else stands on the receipt, except `reversedAmount`. */
export type CheckedReceipt = {
  authentic: true
  side: ReceiptSide
  reference: string
  type: string
  amount: string
  currency: string
  completedAt: string
  /** Null: outside the system. */
  fromWalletCode: string | null
  toWalletCode: string | null
  /** What was given back since. */
  reversedAmount: string
}

export type CheckReceipt = (reference: string, code: string) => Promise<CheckedReceipt | undefined>

/**
 * Looks a receipt up by what is printed on it. Undefined if its code was not made for a side of this transfer, whether
 * or not there is such a transfer.
 */
export const createCheckReceipt =
  (deps: {
    codes: Pick<ReceiptCodes, 'sideOf'>
    readTransfersBetween: (first: string, last: string) => Promise<TransferFacts[]>
  }): CheckReceipt =>
  async (reference, code) => {
    const ids = idsOfReference(reference)
    if (!ids) return undefined
    for (const facts of await deps.readTransfersBetween(ids.first, ids.last)) {
      const transfer = completedOf(facts)
      if (!transfer) continue
      const { id, type, amount, currency, completedAt, from, to } = transfer
      const side = deps.codes.sideOf({ transferId: id, amount, currency, completedAt }, code)
      if (side === undefined) continue
      return {
        ...{ authentic: true, side, reference: referenceOf(id), type, currency },
        amount: formatAmount(amount, currency),
        completedAt: completedAt.toISOString(),
        fromWalletCode: from?.code ?? null,
        toWalletCode: to?.code ?? null,
        reversedAmount: formatAmount(facts.reversed - facts.suspended, currency),
      }
    }
    return undefined
  }
