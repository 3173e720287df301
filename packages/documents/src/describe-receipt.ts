import { referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { maskName } from '@pennywire/messages/mask-name.ts'
import type { Language } from '@pennywire/messages/render-notice.ts'
import type { ReceiptCodes, ReceiptSide } from './receipt-code.ts'

/** One side of a transfer; without a user it is the outside world or a wallet of the system. */
type Side = { userId: string | null; code: string | null }

/** A completed transfer as the ledger states it. The amount is in minor units. */
export type CompletedTransfer = {
  id: string
  type: string
  amount: bigint
  currency: string
  completedAt: Date
  from: Side | null
  to: Side | null
}

export type ReceiptParty = { name: string; walletCode: string }

/** All that stands on a receipt, as plain values: a worker thread gets a copy. */
export type Receipt = {
  language: Language
  side: ReceiptSide
  transferId: string
  reference: string
  type: string
  amount: string
  currency: string
  completedAt: Date
  /** Null: outside the system. */
  from: ReceiptParty | null
  to: ReceiptParty | null
  code: string
  /** Where anybody can check the code. */
  checkUrl: string
}

/** The path of the page that checks receipts. */
export const CHECK_PATH = '/v1/receipts/verify'

/** The side on which a user is; undefined for a stranger. */
export const sideOfUser = (
  { from, to }: Pick<CompletedTransfer, 'from' | 'to'>,
  userId: string,
): ReceiptSide | undefined =>
  from?.userId === userId ? 'sender' : to?.userId === userId ? 'recipient' : undefined

/**
 * What the receipt of a transfer says to one of its sides: the own name in full and the other's as strangers see it, as
 * in every answer of the API. The same facts and names give the same receipt.
 */
export const describeReceipt = (deps: {
  transfer: CompletedTransfer
  userId: string
  side: ReceiptSide
  /** Full names by user id, as far as they are known. */
  names: ReadonlyMap<string, string>
  language: Language
  codes: Pick<ReceiptCodes, 'codeOf'>
  publicUrl: string
}): Receipt => {
  const { transfer, userId, side, names, language, codes, publicUrl } = deps
  const { id, type, amount, currency, completedAt } = transfer
  const partyOf = (party: Side | null): ReceiptParty | null => {
    if (!party?.userId || party.code === null) return null
    const name = names.get(party.userId)
    return {
      name: name === undefined ? '' : party.userId === userId ? name : maskName(name),
      walletCode: party.code,
    }
  }
  const reference = referenceOf(id)
  const code = codes.codeOf({ transferId: id, amount, currency, completedAt, side })
  return {
    ...{ language, side, transferId: id, reference, type, currency, completedAt, code },
    amount: formatAmount(amount, currency),
    from: partyOf(transfer.from),
    to: partyOf(transfer.to),
    checkUrl: `${publicUrl}${CHECK_PATH}?reference=${reference}&code=${code}`,
  }
}
