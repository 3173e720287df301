import { describeReceipt, type Receipt, sideOfUser } from '@pennywire/documents/describe-receipt.ts'
import { createReceiptCodes } from '@pennywire/documents/receipt-code.ts'
import { receiptFileName } from '@pennywire/documents/receipt-file-name.ts'
import { RECEIPT_POOL } from '@pennywire/documents/receipt-pool.ts'
import type { Language } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { MacKeys } from '@pennywire/runtime/mac-keys.ts'
import { createWorkerPool } from '@pennywire/runtime/worker-pool.ts'
import type { DeliveredNotice } from './notice-mails.ts'
import { type Attachment, MAIL_CONNECTIONS } from './smtp.ts'
import { readCompletedTransfer } from './sql/transfers.ts'
import { readName } from './sql/users.ts'

/** With the mails before it in the thread, and the mail server's own pauses, it stays below a claim's time. */
const RENDER_MS = 5_000

export type AttachReceipt = (
  notice: DeliveredNotice,
  user: { userId: string; fullName: string | null; language: Language },
) => Promise<Attachment>

/** Whether a notice tells of money that moved, of which there is a receipt. */
export const hasReceipt = ({ transferId, data }: DeliveredNotice): boolean =>
  transferId !== null && 'balance' in data

/**
 * Makes receipts to be attached, in a worker thread: the consumer of events goes on meanwhile. Facts and names are read
 * at each call and never stored; the receipt is the same as the gateway's.
 */
export const createAttachReceipt = (deps: {
  ledgerRead: Database
  gatewayRead: Database
  keys: MacKeys
  publicUrl: string
}): { attach: AttachReceipt; stop: () => Promise<void> } => {
  const { ledgerRead, gatewayRead, publicUrl } = deps
  const codes = createReceiptCodes(deps.keys)
  const pool = createWorkerPool<Receipt, Uint8Array>({
    ...RECEIPT_POOL,
    timeoutMs: RENDER_MS,
    maxWaiting: MAIL_CONNECTIONS,
    refusal: reason => new Error(`the receipt was not rendered: ${reason}`),
  })
  return {
    attach: async (notice, { userId, fullName, language }) => {
      const transfer = await readCompletedTransfer(ledgerRead, notice.transferId!)
      const side = transfer && sideOfUser(transfer, userId)
      if (!transfer || !side) throw new Error('the ledger knows no such completed transfer of the user')
      const names = new Map<string, string>()
      if (fullName !== null) names.set(userId, fullName)
      const other = (side === 'sender' ? transfer.to : transfer.from)?.userId ?? null
      const otherName = other === null || other === userId ? undefined : await readName(gatewayRead, other)
      if (otherName !== undefined) names.set(other!, otherName)
      const receipt = describeReceipt({ transfer, userId, side, names, language, codes, publicUrl })
      const content = Buffer.from(await pool.run(receipt, userId))
      return { filename: receiptFileName(receipt.reference), contentType: 'application/pdf', content }
    },
    stop: pool.stop,
  }
}
