// By e-mail: what the gateway asks for by template, with a secret, and what notices tell.
import { maskName } from '@pennywire/messages/mask-name.ts'
import { type Mail, renderNoticeMail } from '@pennywire/messages/render-mail.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { type AttachReceipt, hasReceipt } from '../attach-receipt.ts'
import type { Channel } from '../deliver.ts'
import { mailFor } from '../mail-for.ts'
import type { OpenSecret } from '../open-secret.ts'
import { type Attachment, isFinalRefusal, MAIL_CONNECTIONS, type SendMail } from '../smtp.ts'
import type { ClaimedDelivery } from '../sql/deliveries.ts'
import { type MailPreferences, readMailPreferences } from '../sql/preferences.ts'
import { readMailRecipient, readName } from '../sql/users.ts'

const receipts = counter(
  'notifier_receipts_total',
  'Receipts for mails by the outcome of each attempt: attached, postponed, left_out',
  ['outcome'],
)

/** After so many attempts a mail goes without its receipt: the news is worth more than the file. */
const RECEIPT_ATTEMPTS = 3

export const mailChannel = (deps: {
  sql: Database
  gatewayRead: Database
  openSecret: OpenSecret
  attachReceipt: AttachReceipt
  send: SendMail
}): Channel => {
  const { sql, gatewayRead, openSecret, attachReceipt, send } = deps

  /** The receipt that a mail is to have; undefined if it is to have none, or is left without it. */
  const receiptFor = async (
    { userId, notice, attempts }: ClaimedDelivery,
    fullName: string | null,
    { language, attachReceipts }: MailPreferences,
  ): Promise<Attachment | undefined> => {
    if (!attachReceipts || notice === null || !hasReceipt(notice)) return undefined
    try {
      const receipt = await attachReceipt(notice, { userId, fullName, language })
      receipts.inc({ outcome: 'attached' })
      return receipt
    } catch (cause) {
      const isLast = attempts >= RECEIPT_ATTEMPTS
      receipts.inc({ outcome: isLast ? 'left_out' : 'postponed' })
      if (isLast) return undefined
      throw Object.assign(new Error('the receipt was not made', { cause }), { code: 'RECEIPT_NOT_MADE' })
    }
  }

  const write = async (
    delivery: ClaimedDelivery,
    fullName: string | null,
  ): Promise<Mail & { attachments?: Attachment[] }> => {
    const { userId, template, secret, notice } = delivery
    const preferences = await readMailPreferences(sql, userId)
    const { language } = preferences
    if (template !== null) return mailFor(language, template, fullName, await openSecret(secret!))
    const other = notice!.aboutUserId === null ? undefined : await readName(gatewayRead, notice!.aboutUserId)
    const receipt = await receiptFor(delivery, fullName, preferences)
    const mail = renderNoticeMail(language, notice!, {
      fullName,
      other: other === undefined ? null : maskName(other),
      attached: receipt !== undefined,
    })
    return receipt ? { ...mail, attachments: [receipt] } : mail
  }

  return {
    name: 'mail',
    atOnce: MAIL_CONNECTIONS,
    claimMs: 60_000,
    lastPauseMs: 5 * 60_000,
    deliver: async delivery => {
      const user = await readMailRecipient(gatewayRead, delivery.userId)
      if (!user) throw Object.assign(new Error('the gateway knows no such user'), { code: 'USER_UNKNOWN' })
      if (user.blocked) return 'suppressed'
      const mail = await write(delivery, user.fullName)
      await send({ name: user.fullName ?? '', address: user.email }, { id: delivery.id, ...mail })
      return 'sent'
    },
    isFinal: isFinalRefusal,
  }
}
