// By e-mail: what the gateway asks for by template, with a secret, and what notices tell.
import { maskName } from '@pennywire/messages/mask-name.ts'
import { type Mail, renderNoticeMail } from '@pennywire/messages/render-mail.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Channel } from '../deliver.ts'
import { mailFor } from '../mail-for.ts'
import type { OpenSecret } from '../open-secret.ts'
import { isFinalRefusal, MAIL_CONNECTIONS, type SendMail } from '../smtp.ts'
import type { ClaimedDelivery } from '../sql/deliveries.ts'
import { readLanguage } from '../sql/preferences.ts'
import { readMailRecipient, readName } from '../sql/users.ts'

export const mailChannel = (deps: {
  sql: Database
  gatewayRead: Database
  openSecret: OpenSecret
  send: SendMail
}): Channel => {
  const { sql, gatewayRead, openSecret, send } = deps

  const write = async (delivery: ClaimedDelivery, fullName: string | null): Promise<Mail> => {
    const { userId, template, secret, notice } = delivery
    const language = await readLanguage(sql, userId)
    if (template !== null) return mailFor(language, template, fullName, await openSecret(secret!))
    const other = notice!.aboutUserId === null ? undefined : await readName(gatewayRead, notice!.aboutUserId)
    return renderNoticeMail(language, notice!, {
      fullName,
      other: other === undefined ? null : maskName(other),
    })
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
